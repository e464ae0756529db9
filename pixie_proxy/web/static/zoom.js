// A picture that is made larger within its view: by buttons, keys, wheel and fingers. The view's own scrolling moves it.

const STEP = 1.3; // what a button or a key makes of it
const MOST = 8; // screen pixels for one of the picture, or as often as large as the whole of a small one
const WHEEL_PX = 400; // of a wheel's way make it e times as large; of a pinch on a touchpad a quarter

/**
 * Fingers hold the points of the picture that they were put on. One of them, or the mouse, moves it only where it `isLoose`:
 * else a single pointer is for painting, and a wheel scrolls unless Ctrl is held.
 */
export class Zoom {
  #scale = 0; // screen pixels for one of the picture
  #fingers = new Map(); // the last event of each pointer that is down, by id
  #held = null; // which point the fingers hold, how far they were apart, and the scale of then
  #isMoved = false; // two fingers were down since the first one came

  /** `stage` shows a picture of `width` × `height` and stands in `view`; the whole is shown up to a scale of `largest`. */
  constructor(view, stage, { width, height, largest = Infinity, isLoose = false, onzoom = () => {} }) {
    Object.assign(this, { view, stage, width, height, largest, isLoose, onzoom });
    view.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    new ResizeObserver(() => (this.isWhole ? this.fit() : this.by(1))).observe(view, { box: "border-box" });
  }

  /** What shows the whole picture. The view's scrollbars go then, so they take no room of it. */
  get #least() {
    return Math.min(this.view.offsetWidth / this.width, this.view.offsetHeight / this.height, this.largest);
  }

  get isWhole() {
    return this.#scale <= this.#least * 1.001;
  }

  /** Show the whole picture. */
  fit() {
    this.by(0);
  }

  larger() {
    this.by(STEP);
  }

  smaller() {
    this.by(1 / STEP);
  }

  /** Make it so much larger, and keep what is at `at` of the screen in place; else what is in the middle of the view. */
  by(factor, at = this.#middle()) {
    this.#put(this.#scale * factor, this.#point(at), at);
  }

  /** Between the whole picture and its own pixels, or twice the whole where those are hardly more. */
  toggle(at) {
    this.by(this.isWhole ? Math.max(1, 2 * this.#least) / this.#scale : 0, at);
  }

  /** Note that a pointer is down; gives how many are. */
  down(event) {
    if (this.#fingers.size === 0) this.#isMoved = false;
    this.#fingers.set(event.pointerId, event);
    this.#isMoved ||= this.#fingers.size > 1;
    this.#hold();
    return this.#fingers.size;
  }

  /** Note that a pointer has moved; tells whether that moves the picture, for then it is not for painting. */
  move(event) {
    if (!this.#fingers.has(event.pointerId)) return false;
    this.#fingers.set(event.pointerId, event);
    const isMoving = this.isLoose || this.#isMoved;
    if (isMoving) {
      const { at, length } = this.#spread();
      this.#put((this.#held.scale * length) / this.#held.length, this.#held.point, at);
    }
    return isMoving;
  }

  /** Note that a pointer is up. Until the last one is, the others go on as they did. */
  up(event) {
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size) this.#hold();
  }

  #hold() {
    const { at, length } = this.#spread();
    this.#held = { point: this.#point(at), length, scale: this.#scale };
  }

  /** Show it at a scale, with `point` of it where `at` of the screen is, as far as it goes. */
  #put(scale, point, at) {
    this.#scale = Math.min(Math.max(scale, this.#least), MOST * Math.max(1, this.#least));
    this.stage.style.width = `${this.width * this.#scale}px`;
    this.stage.style.height = `${this.height * this.#scale}px`;
    const box = this.stage.getBoundingClientRect();
    this.view.scrollLeft += box.left + point.x * box.width - at.x;
    this.view.scrollTop += box.top + point.y * box.height - at.y;
    this.onzoom(this.#scale);
  }

  /** The point of the picture, in parts of its size, that is at `x`, `y` of the screen. */
  #point({ x, y }) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return { x: (x - left) / (width || 1), y: (y - top) / (height || 1) };
  }

  #middle() {
    const { left, top, width, height } = this.view.getBoundingClientRect();
    return { x: left + width / 2, y: top + height / 2 };
  }

  /** Where the fingers are: their middle, and how far the first two are apart. */
  #spread() {
    const [one, other = one] = this.#fingers.values();
    return {
      at: { x: (one.clientX + other.clientX) / 2, y: (one.clientY + other.clientY) / 2 },
      length: Math.max(1, Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY)),
    };
  }

  #wheel(event) {
    const isPinch = event.ctrlKey || event.metaKey;
    if (!this.isLoose && !isPinch) return; // it scrolls
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    this.by(Math.exp((-event.deltaY * lines * (isPinch ? 4 : 1)) / WHEEL_PX), { x: event.clientX, y: event.clientY });
  }
}
