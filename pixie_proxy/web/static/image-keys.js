// From image to image by keys and by swiping, and back to where one came from.

import { copyText } from "./copy.js";
import { $, make } from "./dom.js";
import { zoom } from "./image-picture.js";
import { t } from "./texts.js";

const SWIPE_PX = 60;
const CAME_FROM_WALL = "image.from"; // how long the history was when the wall led here
const OFF = "image.keys"; // single keys are unwanted: some people speak to their computer

const press = (id) => () => document.getElementById(id)?.click();
const KEYS = [
  { keys: ["ArrowLeft"], shown: "←", run: () => turn("prev") },
  { keys: ["ArrowRight"], shown: "→", run: () => turn("next"), text: "walk" },
  { keys: ["+", "z"], shown: "+", run: zoom, text: "zoom" },
  { keys: ["d"], shown: "d", run: press("download"), text: "download" },
  { keys: ["e"], shown: "e", run: press("edit"), text: "edit" },
  { keys: ["v"], shown: "v", run: press("vary"), text: "vary" },
  { keys: ["f"], shown: "f", run: press("like"), text: "favorite" },
  { keys: ["c"], shown: "c", run: () => copyText($("#prompt").textContent), text: "copy" },
  { keys: ["Escape", "Backspace"], shown: "Esc", run: back, text: "back" },
  { keys: ["?"], shown: "?", run: help, text: "help" },
];

/** Listen to keys, to fingers, and to the links that they stand for. */
export function startKeys() {
  noteWhereFrom();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isBusy(event.target)) return;
    if (event.key.length === 1 && event.key !== "?" && localStorage.getItem(OFF) === "off") return;
    const known = KEYS.find(({ keys }) => keys.includes(event.key));
    if (!known) return;
    event.preventDefault();
    known.run();
  });
  for (const rel of ["prev", "next"]) {
    $(`[rel="${rel}"]`)?.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      turn(rel);
    });
  }
  $("#wall").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || !isFromWall()) return;
    event.preventDefault();
    back();
  });
  $("#keys").addEventListener("click", help);
  startSwipes($("#figure"));
}

/** Go to a neighbour, in the place of this page: then the way back leads to the wall, however far one walked. */
function turn(rel) {
  const link = $(`[rel="${rel}"]`);
  if (link) location.replace(link.href);
}

function back() {
  if (isFromWall()) history.back();
  else location.assign($("#wall").href);
}

function noteWhereFrom() {
  const from = document.referrer && new URL(document.referrer);
  if (from && from.origin === location.origin && from.pathname === "/") sessionStorage.setItem(CAME_FROM_WALL, history.length);
  else if (!from || !from.pathname.startsWith("/images/")) sessionStorage.removeItem(CAME_FROM_WALL);
}

const isFromWall = () => Number(sessionStorage.getItem(CAME_FROM_WALL)) === history.length;

const isBusy = (target) => Boolean(target.closest("input, select, textarea, dialog") || $("dialog[open]"));

function startSwipes(figure) {
  let start = null;
  figure.addEventListener("touchstart", ({ touches }) => (start = touches.length === 1 ? touches[0] : null), { passive: true });
  figure.addEventListener("touchend", ({ changedTouches }) => {
    if (!start || (visualViewport?.scale ?? 1) > 1.01) return;
    const x = changedTouches[0].clientX - start.clientX;
    const y = changedTouches[0].clientY - start.clientY;
    if (Math.abs(x) > SWIPE_PX && Math.abs(x) > 2 * Math.abs(y)) turn(x > 0 ? "prev" : "next");
  });
}

/** Tell the keys, and let those who are better off without them do without. */
function help() {
  const rows = KEYS.filter(({ text }) => text).map(({ shown, text }) =>
    make("div", {}, make("dt", {}, make("kbd", {}, shown === "→" ? "← →" : shown)), make("dd", {}, t(`image.keys.${text}`))),
  );
  const use = make("input", { type: "checkbox", checked: localStorage.getItem(OFF) !== "off" });
  use.addEventListener("change", () => localStorage.setItem(OFF, use.checked ? "on" : "off"));
  const dialog = make(
    "dialog",
    { class: "keys", "aria-labelledby": "keys-title", onclose: () => dialog.remove() },
    make("h2", { id: "keys-title" }, t("image.keys.title")),
    make("dl", {}, ...rows),
    make("label", { class: "check" }, use, t("image.keys.use")),
    make("form", { method: "dialog" }, make("button", {}, t("site.close"))),
  );
  document.body.append(dialog);
  dialog.showModal();
}
