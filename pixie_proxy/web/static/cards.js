// What a job looks like: its images as they appear, how far it is, what went wrong and what can be done.

import { sayDone, trash, untrash } from "./changes.js";
import { icon, make } from "./dom.js";
import { isOver } from "./jobs.js";
import { usd } from "./price.js";
import { fraction, typicalS } from "./progress.js";
import { told } from "./say.js";
import { parseSize } from "./sizes.js";
import { t } from "./texts.js";

const TICK_MS = 250;
const HINTS = new Set(["moderation_blocked", "budget_exhausted", "upstream_outcome_unknown", "csrf_failed", "unpriced_model", "too_old"]);
const ARRANGED = { 1: "one", 2: "even", 4: "even" };
const STAGES = 3; // two partial images and the image itself

/** One job on the page. `acts` are what can be done with it: retry, edit, leave, watch, forget, refer. */
export class Card {
  #tiles = [];
  #timer = null;

  constructor(job, acts, thumbnailPx) {
    this.job = job;
    this.acts = acts;
    this.thumbnailPx = thumbnailPx;
    this.state = make("p", { class: "job-state" });
    this.bar = make("div", { class: "bar-inner" });
    this.progress = make("div", { class: "job-bar", role: "progressbar", "aria-label": t("create.progress"), "aria-valuemin": 0, "aria-valuemax": 100 }, this.bar);
    this.fault = make("div", { class: "job-fault", hidden: true });
    this.buttons = make("div", { class: "job-buttons" });
    const count = job.fields.n ?? 1;
    this.#tiles = Array.from({ length: count }, () => this.#tile());
    this.element = make(
      "li",
      { class: "job", tabindex: "-1" },
      make("div", { class: "job-head" }, make("p", { class: "job-prompt", title: job.fields.prompt }, job.fields.prompt), make("p", { class: "soft job-what" }, whatOf(job))),
      this.progress,
      this.state,
      this.fault,
      make("div", { class: `tiles ${ARRANGED[count] ?? ""}` }, ...this.#tiles.map(({ element }) => element)),
      this.buttons,
    );
  }

  /** Show what has become of the job. */
  show(job) {
    this.job = job;
    this.element.dataset.state = job.state;
    const isMoving = job.state === "running" || job.state === "elsewhere" || job.state === "waiting";
    clearInterval(this.#timer);
    if (isMoving) this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.progress.hidden = !isMoving || job.state === "waiting";
    if (isOver(job)) job.images.forEach((id, at) => id && this.#showImage(id, at));
    this.#tick();
    this.#tellFault();
    this.#offer();
  }

  /** Show a picture as it appears, one of the last stage with `isWhole`. */
  showPicture(blob, at, isWhole) {
    const tile = this.#tiles[at] ?? this.#add();
    tile.stages = isWhole ? STAGES : Math.min(STAGES - 1, tile.stages + 1);
    tile.element.classList.toggle("done", isWhole);
    if (!blob) return;
    const url = URL.createObjectURL(blob);
    this.#lay(tile, url, () => URL.revokeObjectURL(url));
  }

  /** Show an image that is in the gallery. */
  #showImage(id, at) {
    const tile = this.#tiles[at] ?? this.#add();
    if (tile.id === id) return;
    Object.assign(tile, { id, stages: STAGES });
    const isMoving = ["gif", "svg"].includes(this.job.fields.output_format);
    this.#lay(tile, isMoving ? `/v1/images/${id}/content` : `/v1/images/${id}/thumbnail?size=${this.thumbnailPx}`);
    tile.element.classList.add("done");
    tile.element.append(this.#tileButtons(tile));
  }

  /** Say in a sentence how it stands, for those who don't see it. */
  said() {
    const { state } = this.job;
    if (state === "done") return t("create.said_done", { n: this.job.images.length });
    return state === "failed" ? t("create.said_failed", { reason: this.job.error?.message }) : t(`create.state_${state}`, this.#values());
  }

  stop() {
    clearInterval(this.#timer);
    this.element.remove();
  }

  // --- Images ---

  #tile() {
    const size = parseSize(this.job.fields.size) ?? { width: 1, height: 1 };
    const frame = make("span", { class: "frame" });
    frame.style.aspectRatio = `${size.width} / ${size.height}`;
    return { element: make("figure", { class: "tile" }, frame), frame, id: null, stages: 0 };
  }

  #add() {
    const tile = this.#tile();
    this.#tiles.push(tile);
    this.#tiles[0].element.after(tile.element);
    return tile;
  }

  /** Lay a picture over the one that is there, and take that away once the new one is seen. */
  #lay(tile, source, then = () => {}) {
    if (!tile) return;
    const picture = make("img", { src: source, alt: tile.id ? this.job.fields.prompt : "", decoding: "async", class: "coming" });
    const inside = tile.id ? make("a", { href: `/images/${tile.id}` }, picture) : picture;
    const seen = () => {
      then();
      if (picture.naturalWidth) tile.frame.style.aspectRatio = `${picture.naturalWidth} / ${picture.naturalHeight}`;
      picture.classList.remove("coming");
      const before = [...tile.frame.children].slice(0, [...tile.frame.children].indexOf(inside));
      setTimeout(() => before.forEach((each) => each.remove()), 400);
    };
    picture.addEventListener("load", seen, { once: true });
    picture.addEventListener("error", () => (then(), tile.id && tile.element.classList.add("broken")), { once: true });
    tile.frame.append(inside);
  }

  #tileButtons(tile) {
    const { id } = tile;
    const button = (sign, text, run) => make("button", { type: "button", class: "tool", "aria-label": text, title: text, onclick: run }, icon(sign));
    return make(
      "figcaption",
      {},
      make("a", { class: "button tool", href: `/v1/images/${id}/content`, download: id, "aria-label": t("create.download"), title: t("create.download") }, icon("download")),
      button("brush", t("create.refer"), () => this.acts.refer(id)),
      button("trash", t("create.delete"), told(() => this.#delete(tile))),
    );
  }

  async #delete({ id, element }) {
    const { prompt } = this.job.fields;
    await trash(id, prompt);
    element.hidden = true;
    sayDone(t("create.deleted"), async () => {
      await untrash(id, prompt);
      element.hidden = false;
    });
  }

  // --- How it stands ---

  #tick() {
    const { job } = this;
    const seen = this.#tiles.reduce((sum, { stages }) => sum + stages, 0) / (STAGES * this.#tiles.length);
    const part = fraction(elapsedS(job), typicalS(job.fields), seen);
    this.bar.style.transform = `scaleX(${part})`;
    this.progress.setAttribute("aria-valuenow", Math.round(100 * part));
    this.state.textContent = t(`create.state_${job.state}`, this.#values());
  }

  #values() {
    const { job } = this;
    return {
      ...{ elapsed: spoken(elapsedS(job)), usual: spoken(typicalS(job.fields)) },
      seconds: Math.max(0, Math.ceil((job.again_ms - Date.now()) / 1000)),
      reason: job.error?.message ?? "",
      took: job.duration_s ? spoken(job.duration_s) : "",
      cost: job.cost_usd === null || job.cost_usd === undefined ? t("create.cost_unknown") : usd(job.cost_usd),
    };
  }

  #tellFault() {
    const { error, state } = this.job;
    this.fault.hidden = state !== "failed" || !error;
    if (this.fault.hidden) return;
    const hint = HINTS.has(error.code) ? make("p", {}, t(`create.hint_${error.code}`)) : null;
    this.fault.replaceChildren(make("p", {}, make("strong", {}, error.message || t("create.no_reason"))), ...(hint ? [hint] : []));
  }

  #offer() {
    const { job, acts } = this;
    const button = (text, run, kind = "") => make("button", { type: "button", class: kind, onclick: told(() => run(job)) }, text);
    const isUntaken = !job.is_sent;
    const offers = {
      queued: () => [isUntaken ? button(t("create.cancel"), acts.forget) : button(t("create.leave"), acts.leave)],
      waiting: () => [isUntaken ? button(t("create.cancel"), acts.forget) : button(t("create.leave"), acts.leave)],
      running: () => [button(t("create.leave"), acts.leave)],
      elsewhere: () => [],
      left: () => [button(t("create.watch"), acts.watch), button(t("create.dismiss"), acts.forget, "quiet")],
      done: () => [button(t("create.again"), acts.retry), button(t("create.edit"), acts.edit), button(t("create.dismiss"), acts.forget, "quiet")],
      failed: () => [button(t("create.retry"), acts.retry, "main"), button(t("create.edit"), acts.edit), button(t("create.dismiss"), acts.forget, "quiet")],
    };
    const key = `${job.state} ${isUntaken}`;
    if (this.buttons.dataset.offers === key) return;
    const hadFocus = this.buttons.contains(document.activeElement);
    this.buttons.dataset.offers = key;
    this.buttons.replaceChildren(...offers[job.state]());
    if (hadFocus) this.element.focus();
  }
}

function elapsedS({ sent_ms }) {
  return sent_ms ? (Date.now() - sent_ms) / 1000 : 0;
}

function spoken(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? t("create.seconds", { n: whole }) : t("create.minutes", { minutes: Math.floor(whole / 60), seconds: whole % 60 });
}

function whatOf({ kind, fields, files }) {
  const pictures = files.filter(({ name }) => name !== "mask").length;
  const from = kind === "edit" ? t("create.from_pictures", { n: pictures || 1 }) : null;
  return [fields.model, fields.quality, fields.size, fields.output_format, from].filter(Boolean).join(" · ");
}
