// The wall by keyboard: arrows go from tile to tile as one sees them, letters act on the one that has the focus.

import { $ } from "./dom.js";
import { remove, toggleFavorite } from "./wall-acts.js";
import { leave, pick, pickAll, picked, picks } from "./wall-pick.js";
import { found, handleOf, tileOf, tiles } from "./wall-tiles.js";

/** Listen to keys, and keep one tile at a time among the places where Tab stops. */
export function readKeys() {
  addEventListener("keydown", onKey);
  found.addEventListener("focusin", (event) => tileOf(event.target) && stopAt(tileOf(event.target)));
  found.addEventListener("tiles", () => stopAt(tileOf(document.activeElement) ?? tiles()[0]));
  stopAt(tiles()[0]);
}

const MOVES = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: above, ArrowDown: below, Home: () => tiles()[0], End: () => tiles().at(-1) };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if ($("dialog[open]") || event.target.matches("select, textarea, input:not([type=checkbox])")) return;
  const tile = tileOf(document.activeElement);
  if (act(event, tile)) event.preventDefault();
}

/** Do what a key means, and tell whether it means something. */
function act(event, tile) {
  const { key } = event;
  if (key === "/") return Boolean($('#filters [type="search"]')?.focus() ?? true);
  if (key === "?") return Boolean($("#keys").showModal() ?? true);
  if (key === "Escape" && picks()) return Boolean(leave() ?? true);
  if (key === "a" && tiles().length) return Boolean(pickAll() ?? true);
  if (key in MOVES && (tile || key.startsWith("Arrow"))) return move(tile, MOVES[key]);
  if (key === "Delete" && (tile || picked().length)) return Boolean(remove(picked().length ? picked() : [tile]) ?? true);
  if (!tile) return false;
  if (key === "x" || key === "X" || (key === " " && document.activeElement === handleOf(tile))) {
    return Boolean(pick(tile, { isRange: event.shiftKey }) ?? true);
  }
  if (key === "f") return Boolean(toggleFavorite(tile) ?? true);
  return false;
}

function move(tile, how) {
  const all = tiles();
  // An arrow begins to walk only where nothing else has the focus: elsewhere it scrolls.
  if (!tile && document.activeElement !== document.body && document.activeElement.id !== "main") return false;
  const to = !tile ? all.find((each) => each.getBoundingClientRect().top >= 0) : typeof how === "number" ? all[all.indexOf(tile) + how] : how(tile);
  if (to) {
    stopAt(to);
    handleOf(to).focus();
    to.scrollIntoView({ block: "nearest" });
  }
  return Boolean(tile ?? to);
}

function above(tile) {
  return nearest(tile, tiles().filter((each) => each.offsetTop < tile.offsetTop), (rows) => Math.max(...rows));
}

function below(tile) {
  return nearest(tile, tiles().filter((each) => each.offsetTop > tile.offsetTop), (rows) => Math.min(...rows));
}

/** Of the row next to a tile's, the tile whose middle is nearest. */
function nearest(tile, others, choose) {
  if (!others.length) return null;
  const row = choose(others.map((each) => each.offsetTop));
  const middle = (each) => each.offsetLeft + each.offsetWidth / 2;
  const distance = (each) => Math.abs(middle(each) - middle(tile));
  return others.filter((each) => each.offsetTop === row).reduce((best, each) => (distance(each) < distance(best) ? each : best));
}

function stopAt(tile) {
  for (const each of tiles()) {
    for (const stop of each.querySelectorAll("a, button, input:not([type=hidden])")) stop.tabIndex = each === tile ? 0 : -1;
  }
}
