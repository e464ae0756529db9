// The wall by keyboard: arrows go from tile to tile as one sees them, letters act on the one that has the focus.

import { $ } from "./dom.js";
import { tellError } from "./say.js";
import { remove, toggle } from "./wall-acts.js";
import { leave, pick, pickAll, picked, picks } from "./wall-pick.js";
import { found, handleOf, tileOf, tiles } from "./wall-tiles.js";

/** Listen to keys, and keep one tile at a time among the places where Tab stops. */
export function readKeys() {
  addEventListener("keydown", onKey);
  $("#help")?.addEventListener("click", () => $("#keys").showModal());
  found.addEventListener("focusin", (event) => tileOf(event.target) && stopAt(tileOf(event.target)));
  found.addEventListener("tiles", () => stopAt(tileOf(document.activeElement) ?? tiles()[0]));
  stopAt(tiles()[0]);
}

const MOVES = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: above, ArrowDown: below, Home: () => tiles()[0], End: () => tiles().at(-1) };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if ($("dialog[open]") || event.target.matches("select, textarea, input:not([type=checkbox])")) return;
  const tile = tileOf(document.activeElement);
  const isMeant = event.key in MOVES ? move(tile, MOVES[event.key]) : press(event, tile);
  if (isMeant) event.preventDefault();
}

/** Do what a key means, and tell whether it means something here. */
function press({ key, shiftKey }, tile) {
  const act = anywhere(key) ?? (tile && onTile(key, shiftKey, tile));
  act?.();
  return Boolean(act);
}

function anywhere(key) {
  const those = picked();
  if (key === "/") return () => $('#filters [type="search"]')?.focus();
  if (key === "?") return () => $("#keys").showModal();
  if (key === "Escape" && picks()) return leave;
  if (key === "a" && tiles().length) return pickAll;
  if (key === "Delete" && those.length) return () => remove(those).catch(tellError);
}

function onTile(key, isRange, tile) {
  if (key === "x" || key === "X") return () => pick(tile, { isRange });
  if (key === " " && document.activeElement === handleOf(tile)) return () => pick(tile, { isRange });
  if (key === "f") return () => toggle(tile);
  if (key === "Delete") return () => remove([tile]).catch(tellError);
}

function move(tile, how) {
  const all = tiles();
  // An arrow begins to walk only where nothing else has the focus: elsewhere it scrolls, as Home and End do.
  if (!tile && how !== MOVES.ArrowRight && how !== MOVES.ArrowDown) return false;
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
