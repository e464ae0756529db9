// What it will cost, before; what is left to spend; and how amounts are written.

import { call } from "./api.js";
import { debounced, make } from "./dom.js";
import { t } from "./texts.js";

const PAUSE_MS = 350;
const STAND_IN = "data:,"; // for a picture: prices count them, nobody looks at them

/** Write an amount as people read it: small ones with more digits. */
export function usd(amount) {
  return `$${amount.toFixed(amount >= 1 || amount === 0 ? 2 : amount >= 0.01 ? 3 : 4)}`;
}

export class Price {
  #asking = null;
  #balance = null;
  #estimate = null;

  /** Show in `line` what `order()` will cost, and in `warning` what speaks against it; again at each `update()`. */
  constructor(line, warning, order) {
    this.line = line;
    this.warning = warning;
    this.update = debounced(() => this.#update(order()), PAUSE_MS);
  }

  /** Ask what is left to spend, which each call changes. */
  async refresh() {
    this.#balance = await call("GET", "/v1/credits/balance").catch(() => this.#balance);
    this.#show();
  }

  async #update({ fields, files }) {
    this.#asking?.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const json = { ...fields, prompt: fields.prompt || "…" };
    const images = files.filter(({ name }) => name !== "mask").map(() => ({ image_url: STAND_IN }));
    if (images.length) json.images = images;
    if (files.length > images.length) json.mask = { image_url: STAND_IN };
    try {
      this.#estimate = await call("POST", "/v1/images/estimate", { json, signal });
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#estimate = null; // whatever is wrong with it, the call itself will tell
    }
    this.#show();
  }

  #show() {
    const [estimate, balance] = [this.#estimate, this.#balance];
    const left = balance?.remaining_usd ?? null;
    this.line.replaceChildren(
      make("strong", {}, estimate ? priceOf(estimate) : "\u00a0"),
      make("span", { class: "soft" }, left === null ? "" : t("create.left", { usd: usd(left) })),
    );
    const isOver = left !== null && estimate?.priced && estimate.ceiling_usd > left;
    this.warning.hidden = !isOver;
    if (!isOver) return;
    const most = t("create.over_budget", { most: usd(estimate.ceiling_usd), usd: usd(left) });
    this.warning.textContent = estimate.open.length ? `${most} ${t("create.over_budget_open")}` : most;
  }
}

function priceOf({ priced, estimated_usd, ceiling_usd }) {
  if (!priced) return t("create.unpriced");
  if (estimated_usd === null) return t("create.at_most", { most: usd(ceiling_usd) });
  const [about, most] = [usd(estimated_usd), usd(ceiling_usd)];
  return about === most ? t("create.about_exactly", { usd: about }) : t("create.about", { usd: about, most });
}
