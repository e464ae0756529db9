// Makes a picture larger within its view: by buttons, wheel and two fingers. The view's own scrolling moves it.

const MOST = 8;
const WHEEL = 300; // of a wheel's way make it e times as large

export class Zoom {
  #zoom = 1;
  #fitted = 1; // what one pixel of the picture takes at zoom 1
  #fingers = new Map(); // pointers that are down, by id
  #pinch = null; // where two fingers were, and at which zoom they began

  /** `stage` shows a picture of `width` × `height` and stands in `view`, which scrolls. */
  constructor(view, stage, width, height) {
    Object.assign(this, { view, stage, width, height });
    view.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  /** Show the whole picture. */
  fit() {
    this.#fitted = Math.min(this.view.clientWidth / this.width, this.view.clientHeight / this.height);
    this.to(1);
  }

  by(factor) {
    this.to(this.#zoom * factor);
  }

  /** Zoom, and keep the point in place that is at `x`, `y` of the view; else its middle. */
  to(zoom, x = this.view.clientWidth / 2, y = this.view.clientHeight / 2) {
    const before = this.#zoom;
    const { scrollLeft, scrollTop } = this.view;
    this.#zoom = Math.min(MOST, Math.max(1, zoom));
    this.stage.style.width = `${this.width * this.#fitted * this.#zoom}px`;
    this.stage.style.height = `${this.height * this.#fitted * this.#zoom}px`;
    const grown = this.#zoom / before;
    this.view.scrollLeft = (scrollLeft + x) * grown - x;
    this.view.scrollTop = (scrollTop + y) * grown - y;
  }

  /** Note that a pointer is down; gives how many are. */
  touch(event) {
    this.#fingers.set(event.pointerId, event);
    if (this.#fingers.size === 2) this.#pinch = { ...this.#spread(), zoom: this.#zoom };
    return this.#fingers.size;
  }

  /** Note that a pointer has moved; tells whether that moves the picture, for then it is not for painting. */
  moves(event) {
    if (!this.#fingers.has(event.pointerId)) return false;
    this.#fingers.set(event.pointerId, event);
    if (this.#pinch && this.#fingers.size > 1) this.#follow();
    return this.#pinch !== null;
  }

  /** Note that a pointer is up. Until the last one is, none paints. */
  release(event) {
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size === 0) this.#pinch = null;
  }

  #follow() {
    const now = this.#spread();
    this.view.scrollLeft -= now.x - this.#pinch.x;
    this.view.scrollTop -= now.y - this.#pinch.y;
    this.to((this.#pinch.zoom * now.length) / this.#pinch.length, now.x, now.y);
    [this.#pinch.x, this.#pinch.y] = [now.x, now.y];
  }

  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // else it scrolls
    event.preventDefault();
    const box = this.view.getBoundingClientRect();
    this.to(this.#zoom * Math.exp(-event.deltaY / WHEEL), event.clientX - box.left, event.clientY - box.top);
  }

  #spread() {
    const box = this.view.getBoundingClientRect();
    const [a, b] = this.#fingers.values();
    return {
      x: (a.clientX + b.clientX) / 2 - box.left,
      y: (a.clientY + b.clientY) / 2 - box.top,
      length: Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)),
    };
  }
}
