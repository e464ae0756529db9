// The picture over the whole screen: zoomed by click, wheel, pinch and keys, moved by drag and arrows.

import { $, icon, make } from "./dom.js";
import { t } from "./texts.js";
import { Zoom } from "./zoom.js";

const MOVE_PX = 80;
const CLICK_PX = 5;

/** Open it. `src` is shown at once, `full` as soon as it is there; sizes are those of the original. */
export function openZoom({ src, full, alt, width, height }) {
  const image = make("img", { src, alt, draggable: "false" });
  const stage = make("div", { class: "stage" }, image);
  const percent = make("output", { "aria-live": "polite" });
  const button = (name, label, press) => make("button", { type: "button", "aria-label": label, title: label, onclick: press }, name);
  const zoom = new Zoom(stage, image, { width, height, largest: 1, isLoose: true, onzoom: show });
  const dialog = make(
    "dialog",
    { class: "zoom", "aria-label": t("image.zoom.title"), onclose: () => dialog.remove(), onkeydown: (event) => key(event, stage, zoom) },
    stage,
    make(
      "div",
      { class: "tools" },
      button("−", t("image.zoom.out"), () => zoom.smaller()),
      percent,
      button("+", t("image.zoom.in"), () => zoom.larger()),
      button(t("image.zoom.fit"), t("image.zoom.fit"), () => zoom.fit()),
      button(icon("close"), t("image.zoom.close"), () => dialog.close()),
    ),
  );
  follow(stage, zoom);
  document.body.append(dialog);
  dialog.showModal();
  $(".tools button:last-child", dialog).focus();
  zoom.fit();
  if (full !== src) {
    const sharp = make("img", { src: full });
    sharp.decode().then(() => (image.src = full), () => {});
  }

  function show(scale) {
    stage.classList.toggle("whole", zoom.isWhole);
    percent.value = `${Math.round(scale * 100)} %`;
  }
}

/** Let pointers move it; one that hardly did has clicked. */
function follow(stage, zoom) {
  let pressed = null; // where the only pointer came down
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    pressed = zoom.down(event) === 1 ? event : null;
  });
  stage.addEventListener("pointermove", (event) => {
    zoom.move(event);
    if (pressed && distance(event, pressed) >= CLICK_PX) pressed = null;
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => zoom.up(event));
  stage.addEventListener("pointerup", (event) => {
    if (pressed) zoom.toggle({ x: event.clientX, y: event.clientY });
    pressed = null;
  });
}

function key(event, stage, zoom) {
  const move = (x, y) => () => stage.scrollBy(x * MOVE_PX, y * MOVE_PX);
  const keys = {
    ArrowLeft: move(-1, 0),
    ArrowRight: move(1, 0),
    ArrowUp: move(0, -1),
    ArrowDown: move(0, 1),
    "+": () => zoom.larger(),
    "=": () => zoom.larger(),
    "-": () => zoom.smaller(),
    0: () => zoom.fit(),
  };
  const run = keys[event.key];
  if (!run || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  run();
}

const distance = (one, other) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
