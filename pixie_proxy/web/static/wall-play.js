// Animations stand still until somebody points at one; nothing is loaded before, and nothing plays for who wants no motion.

import { $ } from "./dom.js";
import { found, tileOf } from "./wall-tiles.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
let playing = null;

/** Play what is pointed at or has the focus. */
export function play() {
  found.addEventListener("pointerover", (event) => event.pointerType === "mouse" && turn(tileOf(event.target)));
  found.addEventListener("pointerleave", () => turn(null));
  found.addEventListener("focusin", (event) => turn(tileOf(event.target)));
  found.addEventListener("focusout", () => turn(null));
}

function turn(tile) {
  const wanted = tile?.matches("[data-moves]") && !still.matches ? tile : null;
  if (playing?.tile === wanted) return;
  if (playing) Object.assign(playing.picture, { srcset: playing.srcset, src: playing.src });
  playing = null;
  if (!wanted) return;
  const picture = $(".picture", wanted);
  playing = { tile: wanted, picture, src: picture.getAttribute("src"), srcset: picture.getAttribute("srcset") };
  picture.removeAttribute("srcset");
  picture.src = picture.getAttribute("src").replace(/\/thumbnail\?.*$/, "/content");
}
