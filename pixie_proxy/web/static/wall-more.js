// Endless scrolling: near its end the wall takes the tiles of the next page; whoever comes back finds the same place.
// Without it, or when a page is not to be had, the links to older and newer ones are there.

import { $, $$, debounced, fetchPage } from "./dom.js";
import { tellError } from "./say.js";
import { t } from "./texts.js";
import { found, handleOf, tellChange, tileOf, tiles } from "./wall-tiles.js";

const AHEAD = "1500px 0px"; // so far below the window the next page is fetched
const SETTLED_MS = 150;

let walked = []; // the addresses of the pages that were added to the first
let asking = null;
const watcher = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && add(), { rootMargin: AHEAD });

/** Fetch on as one scrolls, and remember how far one came. */
export function goOn() {
  watch();
  addEventListener("scroll", debounced(remember, SETTLED_MS), { passive: true });
  addEventListener("pagehide", remember);
  found.addEventListener("click", (event) => remember(tileOf(event.target)?.dataset.id), { capture: true });
  found.addEventListener("load", (event) => event.target.matches?.(".picture") && undim(event.target), { capture: true });
  for (const picture of $$(".picture", found)) if (picture.complete && picture.naturalWidth) undim(picture); // before us
}

/** Take the placeholder away from behind a picture: through what is transparent in that it would be seen. */
function undim(picture) {
  $(".dim", picture.parentElement)?.remove();
}

/** Begin anew: other tiles were put into the wall. */
export function startOver() {
  asking?.abort();
  asking = null;
  walked = [];
  watch();
}

/** Load as many pages as there were when this place of the history was left, and go where one was. */
export async function restore() {
  history.scrollRestoration = "manual";
  const was = history.state?.wall;
  if (!was) return;
  try {
    // Where the first page is what it was, so are the others, and all are fetched at once; else they are walked along.
    if (was.walked.length && next() === was.walked[0]) {
      for (const page of await Promise.all(was.walked.map((address) => fetchPage(address)))) take(page);
      walked = was.walked;
    } else {
      while (!tileOf(was.id) && walked.length <= was.walked.length && (await add()));
    }
  } catch (error) {
    console.warn(error); // the wall is as long as it is, and goes on from there
  }
  const tile = tileOf(was.id);
  if (tile) scrollTo({ top: scrollY + tile.getBoundingClientRect().top - was.top, behavior: "instant" });
  const left = was.left && tileOf(was.left);
  if (left) handleOf(left)?.focus({ preventScroll: true });
}

function remember(left) {
  const tile = tiles().find((each) => each.getBoundingClientRect().bottom > 0);
  if (!tile) return;
  const wall = { walked, id: tile.dataset.id, top: tile.getBoundingClientRect().top };
  wall.left = typeof left === "string" ? left : history.state?.wall?.left;
  history.replaceState({ ...history.state, wall }, "");
}

/** Add the next page; give whether it came. */
async function add() {
  const address = next();
  if (asking || !address) return false;
  const mine = (asking = new AbortController());
  found.setAttribute("aria-busy", "true");
  try {
    const page = await fetchPage(address, { signal: mine.signal });
    if (asking !== mine) return false;
    const n = take(page);
    walked = [...walked, address];
    $("#told")?.replaceChildren(t("wall.more", { n }));
  } catch (error) {
    if (asking === mine) tellError(error);
    return false;
  } finally {
    if (asking === mine) {
      asking = null;
      found.removeAttribute("aria-busy");
    }
  }
  watch();
  return true;
}

function take(page) {
  const known = new Set(tiles().map((tile) => tile.dataset.id));
  const fresh = $$("#found .tile", page).filter((tile) => !known.has(tile.dataset.id));
  $(".grid", found)?.append(...fresh);
  const older = $('#found a[rel="next"]', page);
  if (older) link().replaceWith(older);
  else link().remove();
  tellChange();
  return fresh.length;
}

const link = () => $('.pages a[rel="next"]', found);

function next() {
  const older = link();
  return older && older.pathname + older.search;
}

function watch() {
  watcher.disconnect();
  if (link()) watcher.observe(link());
}
