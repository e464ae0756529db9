// The picture over the whole screen: zoomed by click, wheel, pinch and keys, moved by drag and arrows.

import { $, icon, make } from "./dom.js";
import { t } from "./texts.js";

const STEP = 1.4;
const MOST = 8; // screen pixels for one of the picture
const MOVE_PX = 80;
const CLICK_PX = 5;

/** Open it. `src` is shown at once, `full` as soon as it is there; sizes are those of the original. */
export function openZoom({ src, full, alt, width, height }) {
  const image = make("img", { src, alt, width, height, draggable: "false" });
  const stage = make("div", { class: "stage" }, image);
  const percent = make("output", { "aria-live": "polite" });
  const button = (name, label, press) => make("button", { type: "button", "aria-label": label, title: label, onclick: press }, name);
  const view = new View(stage, image, percent, { width, height });
  const dialog = make(
    "dialog",
    { class: "zoom", "aria-label": t("image.zoom.title"), onclose: () => dialog.remove() },
    stage,
    make(
      "div",
      { class: "tools" },
      button("−", t("image.zoom.out"), () => view.zoom(1 / STEP)),
      percent,
      button("+", t("image.zoom.in"), () => view.zoom(STEP)),
      button(t("image.zoom.fit"), t("image.zoom.fit"), () => view.fit()),
      button(icon("close"), t("image.zoom.close"), () => dialog.close()),
    ),
  );
  dialog.addEventListener("keydown", (event) => view.key(event));
  document.body.append(dialog);
  dialog.showModal();
  $(".tools button:last-child", dialog).focus();
  view.fit();
  if (full !== src) {
    const sharp = make("img", { src: full });
    sharp.decode().then(() => (image.src = full), () => {});
  }
  return dialog;
}

/** Where the picture lies on the stage: `scale` is screen pixels for one of its own, `x` and `y` its way off the middle. */
class View {
  constructor(stage, image, percent, size) {
    Object.assign(this, { stage, image, percent, size, pointers: new Map() });
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => this.up(event));
    new ResizeObserver(() => (this.isWhole ? this.fit() : this.place())).observe(stage);
  }

  get least() {
    const { width, height } = this.size;
    return Math.min(this.stage.clientWidth / width, this.stage.clientHeight / height, 1);
  }

  fit() {
    this.scale = this.least;
    this.x = this.y = 0;
    this.place();
  }

  /** Zoom, so that the point of the picture which lies at `at` (from the middle) stays there. */
  zoom(factor, at = { x: 0, y: 0 }) {
    const scale = Math.min(Math.max(this.scale * factor, this.least), MOST);
    const ratio = scale / this.scale;
    this.x = at.x - (at.x - this.x) * ratio;
    this.y = at.y - (at.y - this.y) * ratio;
    this.scale = scale;
    this.place();
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.place();
  }

  /** Put it there, its edges never further in than those of the stage. */
  place() {
    const { width, height } = this.size;
    this.isWhole = this.scale <= this.least * 1.001;
    const free = (shown, room) => Math.max(0, (shown - room) / 2);
    const clamp = (value, most) => Math.min(Math.max(value, -most), most);
    this.x = clamp(this.x, free(width * this.scale, this.stage.clientWidth));
    this.y = clamp(this.y, free(height * this.scale, this.stage.clientHeight));
    this.image.style.transform = `translate(-50%, -50%) translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.classList.toggle("whole", this.isWhole);
    this.percent.value = `${Math.round(this.scale * 100)} %`;
  }

  key(event) {
    const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const zooms = { "+": STEP, "=": STEP, "-": 1 / STEP };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) this.pan(...moves[event.key].map((way) => way * MOVE_PX));
    else if (event.key in zooms) this.zoom(zooms[event.key]);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    this.zoom(Math.exp((-event.deltaY * lines) / (event.ctrlKey ? 100 : 400)), this.point(event));
  }

  down(event) {
    if (event.button !== 0) return;
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.point(event));
    this.travel = this.pointers.size > 1 ? Infinity : 0;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.point(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
      this.zoom(distance(now, other) / Math.max(distance(before, other), 1), middle);
      this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    } else {
      this.travel += distance(now, before);
      this.pan(now.x - before.x, now.y - before.y);
    }
    this.pointers.set(event.pointerId, now);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId) || event.type === "pointercancel") return;
    if (this.pointers.size === 0 && this.travel < CLICK_PX) this.click(this.point(event));
  }

  /** Between the whole picture and its own pixels, or twice the whole where those are hardly more. */
  click(at) {
    if (this.isWhole) this.zoom(Math.max(1, 2 * this.least) / this.scale, at);
    else this.fit();
  }

  point(event) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return { x: event.clientX - left - width / 2, y: event.clientY - top - height / 2 };
  }
}

const distance = (one, other) => Math.hypot(one.x - other.x, one.y - other.y);
