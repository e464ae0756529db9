// A dialog in which images of the gallery are found and chosen.

import { call } from "./api.js";
import { debounced, make } from "./dom.js";
import { tellError } from "./say.js";
import { t } from "./texts.js";

const PER_PAGE = 24;
const TYPING_MS = 250;

/** Let somebody choose up to `most` images; gives their ids in the order in which they were chosen. */
export function chooseFromGallery(most) {
  return new Picker(most).run();
}

class Picker {
  #most;
  #chosen = [];
  #last = null; // the image behind which the next page begins
  #asking = null;

  constructor(most) {
    this.#most = most;
    this.grid = make("ul", { class: "picker-grid" });
    this.none = make("p", { class: "soft", role: "status" });
    this.more = make("button", { type: "button", hidden: true, onclick: () => this.#page() }, t("create.picker_more"));
    this.use = make("button", { value: "use", class: "main", disabled: true });
    this.search = make("input", { type: "search", id: "picker-search", placeholder: t("create.picker_search"), autocomplete: "off" });
    this.search.addEventListener("input", debounced(() => this.#find(), TYPING_MS));
    this.search.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
    this.dialog = make(
      "dialog",
      { class: "picker", "aria-label": t("create.picker_title") },
      make(
        "form",
        { method: "dialog" },
        make("label", { for: "picker-search", class: "only-read" }, t("create.picker_search")),
        this.search,
        make("div", { class: "picker-found" }, this.grid, this.none, this.more),
        make("div", { class: "mask-foot" }, make("button", { value: "", class: "quiet" }, t("create.cancel")), this.use),
      ),
    );
    this.#count();
  }

  run() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.#find();
    return new Promise((resolve) => {
      this.dialog.addEventListener("close", () => {
        this.#asking?.abort();
        this.dialog.remove();
        resolve(this.dialog.returnValue === "use" ? this.#chosen : []);
      });
    });
  }

  #find() {
    this.#last = null;
    return this.#page();
  }

  async #page() {
    this.#asking?.abort();
    this.#asking = new AbortController();
    const query = new URLSearchParams({ limit: PER_PAGE });
    const wanted = this.search.value.trim();
    // Who types is in the middle of a word; without any word there is nothing to search for.
    if (/[\p{L}\p{N}]/u.test(wanted)) query.set("q", /[\p{L}\p{N}]$/u.test(wanted) ? `${wanted}*` : wanted);
    if (this.#last) query.set("after", this.#last);
    try {
      const found = await call("GET", `/v1/images?${query}`, { signal: this.#asking.signal });
      if (!this.#last) this.grid.replaceChildren();
      this.grid.append(...found.data.map((image) => this.#item(image)));
      this.#last = found.last_id;
      this.more.hidden = !found.has_more;
      this.none.textContent = this.grid.children.length ? "" : t("create.picker_none");
    } catch (error) {
      tellError(error);
    }
  }

  #item({ id, prompt, thumbnail_url, width, height }) {
    const press = () => this.#toggle(id, button);
    const picture = make("img", { src: thumbnail_url, alt: prompt ?? "", width: width ?? 96, height: height ?? 96, loading: "lazy" });
    const button = make("button", { type: "button", "aria-pressed": this.#chosen.includes(id), onclick: press }, picture);
    return make("li", {}, button);
  }

  #toggle(id, button) {
    const isChosen = this.#chosen.includes(id);
    if (!isChosen && this.#chosen.length >= this.#most) return;
    this.#chosen = isChosen ? this.#chosen.filter((each) => each !== id) : [...this.#chosen, id];
    button.setAttribute("aria-pressed", !isChosen);
    this.#count();
  }

  #count() {
    this.use.disabled = this.#chosen.length === 0;
    this.use.textContent = this.#chosen.length ? t("create.picker_use", { n: this.#chosen.length }) : t("create.picker_use_none");
  }
}
