// The dialog in which a mask is painted over a picture: by mouse, pen and touch, or with the keyboard.

import { icon, make } from "./dom.js";
import { draw, drawOne, isEmpty, maskOf } from "./strokes.js";
import { t } from "./texts.js";
import { Zoom } from "./zoom.js";

const SHOWN_PIXELS = 2_000_000; // what is painted on: a picture may have twenty times as many
const MOST_PIXELS = 64_000_000; // of a mask; a canvas of it takes four bytes each
const STEP = 1.25; // of the brush
const SMALLEST = 4;
const PAINT = "#f0287d";

/**
 * Let somebody paint over the picture at `url`. Gives {mask: a PNG Blob of the picture's size, strokes}, null where nothing
 * is painted, or undefined if it was given up. `strokes` are those of an earlier time. Throws what the picture can't bear.
 */
export async function paintMask(url, strokes = []) {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const { naturalWidth: width, naturalHeight: height } = picture; // as it is seen: turned as its EXIF says
  if (width * height > MOST_PIXELS) throw new Error(t("create.mask_too_large"));
  return new Painter(picture, width, height, strokes).run();
}

class Painter {
  #strokes;
  #undone = [];
  #stroke = null; // the one that is being painted
  #kind = "brush";
  #radius;
  #cursor;

  constructor(picture, width, height, strokes) {
    this.#strokes = [...strokes];
    [this.width, this.height] = [width, height];
    this.#cursor = { x: width / 2, y: height / 2 };
    this.scale = Math.min(1, Math.sqrt(SHOWN_PIXELS / (width * height)));
    this.#radius = Math.max(SMALLEST, Math.round(Math.min(width, height) / 16));
    this.#build(picture);
    this.#redraw();
  }

  /** Show the dialog, and give what comes of it. */
  run() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.zoom.fit();
    this.stage.focus();
    return new Promise((resolve, reject) => {
      this.dialog.addEventListener("close", async () => {
        this.dialog.remove();
        try {
          resolve(this.dialog.returnValue === "use" ? await this.#result() : undefined);
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  async #result() {
    const { width, height } = this.canvas;
    if (isEmpty(this.context, width, height)) return null;
    return { mask: await maskOf(this.#strokes, this.width, this.height), strokes: this.#strokes };
  }

  #build(picture) {
    const shown = { width: Math.round(this.width * this.scale), height: Math.round(this.height * this.scale) };
    picture.className = "mask-picture";
    picture.alt = "";
    picture.draggable = false;
    this.canvas = make("canvas", { class: "mask-canvas", ...shown });
    this.context = this.canvas.getContext("2d");
    this.context.strokeStyle = this.context.fillStyle = PAINT;
    this.context.setTransform(shown.width / this.width, 0, 0, shown.height / this.height, 0, 0);
    this.ring = make("span", { class: "mask-ring", hidden: true });
    this.stage = make(
      "div",
      { class: "mask-stage", tabindex: "0", role: "application", "aria-label": t("create.mask_stage"), "aria-describedby": "mask-keys" },
      ...[picture, this.canvas, this.ring],
    );
    this.view = make("div", { class: "mask-view" }, this.stage);
    this.zoom = new Zoom(this.view, this.stage, { width: this.width, height: this.height });
    this.size = make("input", { type: "range", id: "mask-size", min: SMALLEST, max: Math.round(Math.min(this.width, this.height) / 4), value: this.#radius });
    this.dialog = make(
      "dialog",
      { class: "mask", "aria-label": t("create.mask_title") },
      make(
        "form",
        { method: "dialog", class: "mask-form" },
        this.#tools(),
        this.view,
        make("p", { class: "mask-keys soft", id: "mask-keys" }, t("create.mask_keys")),
        make(
          "div",
          { class: "mask-foot" },
          make("button", { value: "", formnovalidate: true, class: "quiet" }, t("create.cancel")),
          make("button", { value: "use", class: "main" }, t("create.mask_use")),
        ),
      ),
    );
    this.#listen();
  }

  #tools() {
    const tool = (name, text, run) => make("button", { type: "button", class: "tool", "aria-label": text, title: text, onclick: run }, icon(name));
    this.brush = tool("brush", t("create.mask_brush"), () => this.#take("brush"));
    this.eraser = tool("eraser", t("create.mask_erase"), () => this.#take("erase"));
    this.undo = tool("undo", t("create.mask_undo"), () => this.#back());
    this.redo = tool("redo", t("create.mask_redo"), () => this.#forth());
    const tools = make(
      "div",
      { class: "mask-tools", role: "toolbar", "aria-label": t("create.mask_tools") },
      ...[this.brush, this.eraser],
      make("label", { for: "mask-size", class: "mask-size" }, make("span", { class: "only-read" }, t("create.mask_size")), this.size),
      ...[this.undo, this.redo],
      tool("invert", t("create.mask_invert"), () => this.#add({ kind: "invert" })),
      tool("trash", t("create.mask_clear"), () => this.#add({ kind: "clear" })),
      tool("minus", t("create.mask_zoom_out"), () => this.zoom.smaller()),
      tool("plus", t("create.mask_zoom_in"), () => this.zoom.larger()),
      tool("fit", t("create.mask_fit"), () => this.zoom.fit()),
    );
    this.#take("brush");
    return tools;
  }

  #listen() {
    this.size.addEventListener("input", () => this.#resize(Number(this.size.value)));
    this.stage.addEventListener("pointerdown", (event) => this.#down(event));
    this.stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) this.stage.addEventListener(name, (event) => this.#up(event));
    this.stage.addEventListener("pointerleave", () => (this.ring.hidden = true));
    this.stage.addEventListener("keydown", (event) => this.#paintKey(event));
    this.stage.addEventListener("keyup", (event) => event.key === " " && this.#end());
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
  }

  // --- Painting ---

  #down(event) {
    event.preventDefault();
    this.stage.focus();
    this.stage.setPointerCapture(event.pointerId);
    const fingers = this.zoom.down(event);
    if (fingers > 1) this.#giveUp();
    else if (event.button === 0) this.#begin(this.#at(event));
  }

  #move(event) {
    this.#ringAt(this.#at(event));
    if (this.zoom.move(event)) this.ring.hidden = true;
    else for (const each of event.getCoalescedEvents?.() ?? [event]) this.#on(this.#at(each));
  }

  #up(event) {
    this.zoom.up(event);
    this.#end();
  }

  #begin({ x, y }) {
    this.#stroke = { kind: this.#kind, radius: this.#radius, points: [x, y] };
    drawOne(this.context, this.#stroke, this.width, this.height);
  }

  #on({ x, y }) {
    if (!this.#stroke) return;
    const { points } = this.#stroke;
    const last = points.slice(-2);
    points.push(x, y);
    drawOne(this.context, { ...this.#stroke, points: [...last, x, y] }, this.width, this.height);
  }

  #end() {
    if (!this.#stroke) return;
    this.#strokes.push(this.#stroke);
    this.#undone = [];
    this.#stroke = null;
    this.#show();
  }

  /** Take back the stroke that is being painted: a second finger came, and the two move the picture. */
  #giveUp() {
    this.#stroke = null;
    this.#redraw();
  }

  #add(stroke) {
    this.#strokes.push(stroke);
    this.#undone = [];
    drawOne(this.context, stroke, this.width, this.height);
    this.#show();
  }

  #back() {
    if (this.#strokes.length) this.#undone.push(this.#strokes.pop());
    this.#redraw();
  }

  #forth() {
    if (this.#undone.length) this.#strokes.push(this.#undone.pop());
    this.#redraw();
  }

  #redraw() {
    draw(this.context, this.#strokes, this.width, this.height);
    this.#show();
  }

  #show() {
    this.undo.disabled = this.#strokes.length === 0;
    this.redo.disabled = this.#undone.length === 0;
  }

  #take(kind) {
    this.#kind = kind;
    this.brush.setAttribute("aria-pressed", kind === "brush");
    this.eraser.setAttribute("aria-pressed", kind === "erase");
  }

  #resize(radius) {
    this.#radius = Math.min(Number(this.size.max), Math.max(SMALLEST, radius));
    this.size.value = this.#radius;
    this.#ringAt(this.#cursor);
  }

  // --- Keys ---

  #key(event) {
    const isCommand = event.ctrlKey || event.metaKey;
    const keys = {
      "[": () => this.#resize(Math.round(this.#radius / STEP)),
      "]": () => this.#resize(Math.ceil(this.#radius * STEP)),
      b: () => this.#take("brush"),
      e: () => this.#take("erase"),
      "+": () => this.zoom.larger(),
      "-": () => this.zoom.smaller(),
      0: () => this.zoom.fit(),
    };
    const commands = { z: () => (event.shiftKey ? this.#forth() : this.#back()), y: () => this.#forth() };
    const run = (isCommand ? commands : keys)[event.key.toLowerCase()];
    if (!run || event.altKey) return;
    event.preventDefault();
    run();
  }

  /** Arrows move a cursor, Space paints where it stands, and both together paint a line. Enter is not for painting. */
  #paintKey(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (step && !event.ctrlKey && !event.metaKey) {
      const length = event.shiftKey ? 1 : Math.max(1, this.#radius / 2);
      const { x, y } = this.#cursor;
      this.#cursor = {
        x: Math.min(this.width, Math.max(0, x + step[0] * length)),
        y: Math.min(this.height, Math.max(0, y + step[1] * length)),
      };
      this.#on(this.#cursor);
    } else if (event.key === " ") {
      if (!event.repeat) this.#begin(this.#cursor);
    } else return;
    event.preventDefault();
    this.#ringAt(this.#cursor);
    this.ring.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  // --- Where ---

  /** Give where on the picture an event is, in pixels of the picture. */
  #at({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    this.#cursor = { x: ((clientX - box.left) / box.width) * this.width, y: ((clientY - box.top) / box.height) * this.height };
    return this.#cursor;
  }

  #ringAt({ x, y }) {
    const shown = this.canvas.clientWidth / this.width;
    this.ring.hidden = false;
    this.ring.style.left = `${(100 * x) / this.width}%`;
    this.ring.style.top = `${(100 * y) / this.height}%`;
    this.ring.style.width = this.ring.style.height = `${2 * this.#radius * shown}px`;
  }
}
