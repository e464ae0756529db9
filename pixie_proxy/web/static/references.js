// The pictures that an edit starts from: dropped, pasted, chosen or taken from the gallery; in an order, and the first of
// them perhaps with a mask.

import { send } from "./api.js";
import { $, icon, make } from "./dom.js";
import { paintMask } from "./mask.js";
import { chooseFromGallery } from "./picker.js";
import { say, tellError } from "./say.js";
import { t } from "./texts.js";

const MEGABYTE = 1 << 20; // as the settings count
const BEGINNINGS = [
  [0x89, 0x50, 0x4e, 0x47], // PNG
  [0xff, 0xd8, 0xff], // JPEG
  [0x52, 0x49, 0x46, 0x46], // WebP
];

export class References {
  #limits;
  #onchange;
  #list = []; // {file, url, mask, maskUrl, strokes}

  /** `limits` are {files, megabytes}; `onchange()` is called when there are others. */
  constructor(root, limits, onchange) {
    this.root = root;
    this.#limits = limits;
    this.#onchange = onchange;
    this.shown = $(".references", root);
    this.hint = $(".references-hint", root);
    const input = $('input[type="file"]', root);
    $(".choose-files", root).addEventListener("click", () => input.click());
    $(".choose-images", root).addEventListener("click", () => this.#choose());
    input.addEventListener("change", async () => {
      await this.add([...input.files]);
      input.value = "";
    });
    this.#listen();
  }

  get count() {
    return this.#list.length;
  }

  /** Give the files as an edit sends them. A mask counts for the first picture, and where `takesMask`. */
  files(takesMask) {
    const files = this.#list.map(({ file }) => ({ name: "image[]", file }));
    const mask = this.#list[0]?.mask;
    if (mask && takesMask) files.push({ name: "mask", file: new File([mask], "mask.png", { type: "image/png" }) });
    return files;
  }

  /** Add files, as far as they fit; what does not is told. */
  async add(files) {
    for (const file of files) {
      const fault = await this.#fault(file);
      if (fault) say(fault, { isError: true });
      else this.#list.push({ file, url: URL.createObjectURL(file), mask: null, maskUrl: null, strokes: [] });
    }
    this.#show();
  }

  /** Add images of the gallery. */
  async addImages(ids) {
    for (const id of ids) {
      const file = await (await send("GET", `/v1/images/${id}/content`)).blob();
      await this.add([new File([file], `${id}.${file.type.split("/")[1]}`, { type: file.type })]);
    }
  }

  /** Take those files instead, as a job has kept them: {name, file}. */
  async replace(files) {
    for (const each of this.#list.splice(0)) forget(each);
    await this.add(files.filter(({ name }) => name !== "mask").map(({ file }) => file));
    const mask = files.find(({ name }) => name === "mask")?.file;
    if (mask && this.#list.length) Object.assign(this.#list[0], { mask, maskUrl: await overlayOf(mask) });
    this.#show();
  }

  async #fault(file) {
    const { files, megabytes } = this.#limits;
    const name = file.name || t("create.a_picture");
    if (file.size > megabytes * MEGABYTE) return t("create.reference_large", { name, most: megabytes });
    const begins = new Uint8Array(await file.slice(0, 4).arrayBuffer());
    if (!BEGINNINGS.some((known) => known.every((byte, at) => begins[at] === byte))) return t("create.reference_kind", { name });
    return this.#list.length < files ? null : t("create.reference_many", { name, most: files }); // now: others came while we read
  }

  async #choose() {
    try {
      await this.addImages(await chooseFromGallery(this.#limits.files - this.count));
    } catch (error) {
      tellError(error);
    }
  }

  // --- What is seen ---

  #show(focused = null) {
    this.shown.replaceChildren(...this.#list.map((each, at) => this.#item(each, at)));
    this.shown.hidden = this.count === 0;
    this.root.classList.toggle("has-references", this.count > 0);
    if (focused) $(focused, this.shown)?.focus();
    this.#onchange();
  }

  #item(each, at) {
    const name = t("create.reference", { n: at + 1 });
    const press = (sign, label, run, extra = {}) =>
      make("button", { type: "button", class: "tool", "aria-label": `${label}: ${name}`, title: label, onclick: run, ...extra }, icon(sign));
    const picture = make("img", { src: each.url, alt: each.file.name || name, width: 96, height: 96, decoding: "async" });
    picture.addEventListener("error", () => say(t("create.reference_kind", { name: each.file.name }), { isError: true }), { once: true });
    const over = each.maskUrl && at === 0 ? make("img", { src: each.maskUrl, class: "mask-over", alt: t("create.mask_there") }) : null;
    return make(
      "li",
      { class: "reference", "data-at": at },
      make("span", { class: "reference-frame" }, picture, over),
      make(
        "span",
        { class: "reference-tools" },
        at === 0 ? press("brush", t("create.mask_paint"), () => this.#paint(each)) : press("left", t("create.earlier"), () => this.#move(at, at - 1)),
        at + 1 < this.count ? press("right", t("create.later"), () => this.#move(at, at + 1)) : null,
        press("close", t("create.remove"), () => this.#remove(at)),
      ),
    );
  }

  #move(from, to) {
    this.#list.splice(to, 0, ...this.#list.splice(from, 1));
    this.#show(`[data-at="${to}"] button`);
  }

  #remove(at) {
    for (const each of this.#list.splice(at, 1)) forget(each);
    this.#show(`[data-at="${Math.min(at, this.count - 1)}"] button`);
    if (!this.count) $(".choose-files", this.root).focus();
  }

  async #paint(each) {
    try {
      const painted = await paintMask(each.url, each.strokes);
      if (painted !== undefined) {
        URL.revokeObjectURL(each.maskUrl);
        const maskUrl = painted && (await overlayOf(painted.mask));
        Object.assign(each, { mask: painted?.mask ?? null, strokes: painted?.strokes ?? [], maskUrl });
      }
    } catch (error) {
      tellError(error);
    }
    this.#show('[data-at="0"] button');
  }

  // --- What comes from outside ---

  #listen() {
    let depth = 0; // of elements that a drag has entered
    const isOurs = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const over = (isOver) => document.body.classList.toggle("drops", isOver);
    document.addEventListener("dragenter", (event) => isOurs(event) && over((depth += 1) > 0));
    document.addEventListener("dragleave", (event) => isOurs(event) && over((depth -= 1) > 0));
    document.addEventListener("dragover", (event) => isOurs(event) && event.preventDefault());
    document.addEventListener("drop", (event) => {
      if (!isOurs(event)) return;
      event.preventDefault();
      over((depth = 0));
      this.add([...event.dataTransfer.files]);
    });
    document.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return; // text goes where it is pasted
      event.preventDefault();
      this.add(files);
    });
  }
}

function forget({ url, maskUrl }) {
  URL.revokeObjectURL(url);
  URL.revokeObjectURL(maskUrl);
}

const OVERLAY_PX = 192;

/** Give a small picture of what a mask leaves open, to be laid over the reference. */
async function overlayOf(mask) {
  const bitmap = await createImageBitmap(mask);
  const scale = Math.min(1, OVERLAY_PX / Math.min(bitmap.width, bitmap.height));
  const canvas = make("canvas", { width: Math.ceil(bitmap.width * scale), height: Math.ceil(bitmap.height * scale) });
  const context = canvas.getContext("2d");
  context.fillStyle = "#f0287d";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "destination-out";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return URL.createObjectURL(await new Promise((resolve) => canvas.toBlob(resolve)));
}
