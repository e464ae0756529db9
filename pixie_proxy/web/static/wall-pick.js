// Select images: one by one, from the last one to here, all that are shown; by mouse, by keyboard, by a long touch.

import { $ } from "./dom.js";
import { t } from "./texts.js";
import { found, tileOf, tiles } from "./wall-tiles.js";

const LONG_MS = 450;
const STILL_PX = 10; // a finger that moves farther scrolls

let last = null; // the id from which a range goes
let isPicking = false;
const bar = $("#acts");

/** The selected tiles, in the order in which they stand. */
export const picked = () => tiles().filter((tile) => box(tile).checked);

/** Whether a click selects. */
export const picks = () => isPicking;

/** Select a tile, or leave it out again; with `isRange` all from the last one to it. */
export function pick(tile, { isRange = false, to = !box(tile).checked } = {}) {
  const all = tiles();
  const from = isRange ? all.findIndex((each) => each.dataset.id === last) : -1;
  const here = all.indexOf(tile);
  const those = from < 0 ? [tile] : all.slice(Math.min(from, here), Math.max(from, here) + 1);
  for (const each of those) box(each).checked = from < 0 ? to : true;
  last = tile.dataset.id;
  setPicking(true);
}

/** Select all that are shown. */
export function pickAll() {
  for (const tile of tiles()) box(tile).checked = true;
  setPicking(true);
}

/** Leave the selection. */
export function leave() {
  for (const tile of picked()) box(tile).checked = false;
  last = null;
  setPicking(false);
}

/** Listen to the mouse and to fingers. */
export function readPicks() {
  $("#picking")?.addEventListener("click", () => (isPicking ? leave() : setPicking(true)));
  found.addEventListener("click", (event) => {
    const tile = tileOf(event.target);
    if (!tile || event.target.closest(".like, .restore")) return;
    const isBox = event.target.closest(".pick");
    if (!isBox && !isPicking) return;
    if (isBox && event.target.tagName !== "INPUT") return; // the label's click comes again, as its box's
    if (!isBox) event.preventDefault();
    pick(tile, { isRange: event.shiftKey, to: isBox ? event.target.checked : undefined });
  });
  readTouches();
  found.addEventListener("tiles", () => setPicking(isPicking));
}

function readTouches() {
  let timer, start, held;
  found.addEventListener("pointerdown", (event) => {
    const tile = tileOf(event.target);
    held = null;
    if (event.pointerType === "mouse" || !tile || isPicking) return;
    start = event;
    timer = setTimeout(() => {
      held = tile;
      pick(tile);
      navigator.vibrate?.(10);
    }, LONG_MS);
  });
  found.addEventListener("pointermove", (event) => {
    if (start && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > STILL_PX) clearTimeout(timer);
  });
  for (const name of ["pointerup", "pointercancel"]) found.addEventListener(name, () => clearTimeout(timer));
  // The finger has still to leave: its click, if there is one then, opens nothing. The next touch is another one.
  found.addEventListener("click", (event) => {
    if (!held || tileOf(event.target) !== held) return;
    held = null;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
  found.addEventListener("contextmenu", (event) => event.pointerType === "touch" && tileOf(event.target) && event.preventDefault());
}

function setPicking(to) {
  isPicking = to;
  const n = picked().length;
  found.classList.toggle("picking", to);
  $("#picking")?.setAttribute("aria-pressed", String(to));
  bar.hidden = !to;
  $("#picked").textContent = t("wall.picked", { n });
  const isTrash = Boolean($("[data-trash]", found));
  for (const button of bar.querySelectorAll("[data-act]")) {
    const act = button.dataset.act;
    button.hidden = isTrash ? !["none", "all", "restore"].includes(act) : act === "restore";
    button.disabled = n === 0 && !["none", "all"].includes(act);
  }
}

const box = (tile) => $(".pick input", tile);
