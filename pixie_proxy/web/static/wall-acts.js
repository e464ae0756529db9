// What is done to images on the wall, through the JSON API: each change can be undone, and what was refused is told.

import { call, callOrQueue } from "./api.js";
import { labelOf, sayDone, toggleFavorite } from "./changes.js";
import { $, make } from "./dom.js";
import { isOffline } from "./network.js";
import { say, tellError } from "./say.js";
import { t } from "./texts.js";
import { show } from "./wall-find.js";
import { leave, pickAll, picked } from "./wall-pick.js";
import { found, handleOf, tellChange, tileOf, tiles } from "./wall-tiles.js";

const AT_ONCE = 200; // as many as one call changes
const mayMake = "mayMake" in $("#acts").dataset; // else one may look, and have favourites

/** Listen to the hearts, the bar and the restore buttons. */
export function readActs() {
  found.addEventListener("click", (event) => {
    const heart = event.target.closest(".like");
    if (heart) toggle(tileOf(heart));
  });
  found.addEventListener("submit", (event) => {
    const tile = event.target.matches(".tile form") && tileOf(event.target);
    if (!tile) return;
    event.preventDefault();
    restore([tile]).catch(tellError);
  });
  $("#acts").addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (button) ACTS[button.dataset.act](picked()).catch(tellError);
  });
}

const ACTS = {
  none: async () => leave(),
  all: async () => pickAll(),
  favorite: (those) => like(those.filter((tile) => !isFavorite(tile)), true),
  collect,
  tags,
  visibility,
  download: async (those) => download(those),
  delete: remove,
  restore,
};

/** Turn the heart of a tile. */
export function toggle(tile) {
  const heart = $(".like", tile);
  if (heart) toggleFavorite(heart, tile.dataset.id, nameOf(tile)).catch(tellError);
}

/** Put images into the trash. */
export async function remove(those) {
  if ($("[data-trash]", found) || !mayMake) return;
  await takeAway(those, "delete", "restore");
}

/** Take images out of the trash. */
async function restore(those) {
  await takeAway(those, "restore", "delete");
}

/** Do what takes tiles off this wall; undone, they come back where they were. */
async function takeAway(those, act, back) {
  const done = await change(those, act);
  if (!done.length) return;
  const places = done.map((tile) => ({ tile, next: tile.nextElementSibling })).reverse();
  const after = rest(tiles(), done);
  const grid = done[0].parentElement;
  const hadFocus = done.some((tile) => tile.contains(document.activeElement));
  leave();
  for (const tile of done) tile.remove();
  if (hadFocus && after) handleOf(after).focus();
  tellChange();
  if (!after && !isOffline()) await show(here());
  tell(act, done.length, async () => {
    const ids = new Set((await change(done, back)).map((tile) => tile.dataset.id));
    if (!grid.isConnected) return show(here()); // another wall was shown meanwhile
    for (const { tile, next } of places) {
      if (ids.has(tile.dataset.id)) grid.insertBefore(tile, next?.isConnected ? next : null);
    }
    tellChange();
  });
}

/** Give the tile that is next where some are gone: the one behind them, else the last. */
function rest(all, gone) {
  const others = all.filter((tile) => !gone.includes(tile));
  return others.find((tile) => all.indexOf(tile) > all.indexOf(gone.at(-1))) ?? others.at(-1);
}

async function like(those, to) {
  const done = mayMake ? await change(those, to ? "favorite" : "unfavorite") : await likeEach(those);
  for (const tile of done) setFavorite(tile, to);
  tell(to ? "favorite" : "unfavorite", done.length, to && (() => like(done, false)));
}

/** Turn the hearts one after another: only who may make images changes many in one call. Gives those that were turned. */
async function likeEach(those) {
  const done = [];
  try {
    for (const tile of those) {
      await toggleFavorite($(".like", tile), tile.dataset.id, nameOf(tile));
      done.push(tile);
    }
  } catch (error) {
    tellError(error);
  }
  return done;
}

async function visibility(those) {
  const { value } = await ask($("#visibility"));
  if (!value) return;
  const before = Map.groupBy(those, (tile) => tile.dataset.visibility);
  const done = await showTo(those, value);
  tell("visibility", done.length, async () => {
    for (const [was, tiles] of before) await showTo(tiles.filter((tile) => done.includes(tile)), was);
  });
}

async function showTo(those, value) {
  const done = await change(those, "visibility", { visibility: value });
  for (const tile of done) tile.dataset.visibility = value;
  return done;
}

async function tags(those) {
  const dialog = $("#tags");
  const known = [...new Set(those.flatMap(tagsOf))].sort();
  const boxes = known.map((tag) => make("label", {}, make("input", { type: "checkbox", name: "remove", value: tag }), `#${tag}`));
  $(".those", dialog).replaceChildren(...boxes);
  $("fieldset", dialog).hidden = !known.length;
  const { value, fields } = await ask(dialog);
  if (!value) return;
  const add = fields.get("add").split(",").map((tag) => tag.trim().toLowerCase().replace(/^#/, "")).filter(Boolean);
  if (add.length) await tag(those, "tag", add);
  const gone = fields.getAll("remove");
  if (gone.length) await tag(those, "untag", gone);
}

async function tag(those, act, named) {
  const before = new Map(those.map((tile) => [tile, tile.dataset.tags]));
  const done = await change(those, act, { tags: named });
  for (const tile of done) {
    const others = tagsOf(tile).filter((each) => !named.includes(each));
    tile.dataset.tags = (act === "tag" ? [...others, ...named] : others).join(",");
  }
  tell(act, done.length, async () => {
    for (const tile of done) {
      const was = before.get(tile);
      const json = { tags: was ? was.split(",") : [] };
      await callOrQueue("POST", `/v1/images/${tile.dataset.id}`, { json }, labelOf("tag", [nameOf(tile)]));
      tile.dataset.tags = was;
    }
  });
}

async function collect(those) {
  const dialog = $("#collect");
  const { data } = await call("GET", "/v1/collections?owner=me&limit=100");
  const choice = $("select", dialog);
  choice.replaceChildren(choice.options[0], ...data.map((each) => make("option", { value: each.id }, each.name)));
  const name = $("input", dialog);
  const fit = () => {
    name.required = !choice.value;
    name.parentElement.hidden = Boolean(choice.value);
  };
  choice.onchange = fit;
  fit();
  const { value, fields } = await ask(dialog);
  if (!value) return;
  const isNew = !fields.get("into");
  const into = isNew
    ? await call("POST", "/v1/collections", { json: { name: fields.get("name") } })
    : data.find((each) => each.id === fields.get("into"));
  const path = `/v1/collections/${into.id}`;
  const done = await inParts(those, (part) => call("POST", `${path}/images`, { json: { add: idsOf(part) } }));
  leave();
  if (!done.length) return;
  const text = t("wall.done.collect", { n: done.length, name: into.name });
  // Out of an older one an undo would take what had been in it before, too.
  if (isNew) say(text, { action: { label: t("site.undo"), run: () => call("DELETE", path) } });
  else say(text, { action: { label: t("wall.open_collection"), run: () => location.assign(`/?collection=${into.id}`) } });
}

function download(those) {
  if (those.length > AT_ONCE) {
    say(t("wall.too_many", { n: AT_ONCE }), { isError: true });
    return;
  }
  make("a", { href: `/v1/images/export?ids=${idsOf(those)}`, download: "images.zip" }).click();
}

/** Do one thing to many images; give the tiles of those that it was done to, or will be once the proxy can be reached. */
function change(those, action, more = {}) {
  return inParts(those, (part) => {
    const json = { ids: idsOf(part), action, ...more };
    return callOrQueue("POST", "/v1/images/bulk", { json }, labelOf(action, part.map(nameOf)));
  });
}

async function inParts(those, send) {
  const refused = [];
  const done = new Set();
  for (let start = 0; start < those.length; start += AT_ONCE) {
    const part = those.slice(start, start + AT_ONCE);
    const { data } = (await send(part)) ?? { data: idsOf(part).map((id) => ({ id, done: true })) };
    for (const each of data) each.done ? done.add(each.id) : refused.push(each.error.message);
  }
  if (refused.length) {
    const said = { done: done.size, all: those.length, n: refused.length, reason: [...new Set(refused)].join(" ") };
    say(done.size ? t("wall.partly", said) : t("wall.untold", said), { isError: true });
  }
  return those.filter((tile) => done.has(tile.dataset.id));
}

function tell(act, n, undo) {
  if (n) sayDone(t(`wall.done.${act}`, { n }), undo || null);
}

/** Show a dialog; give the button that closed it and what its fields say. */
function ask(dialog) {
  const form = $("form", dialog);
  form.reset();
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve({ value: dialog.returnValue, fields: new FormData(form) }), { once: true });
  });
}

const here = () => location.pathname + location.search;
const idsOf = (those) => those.map((tile) => tile.dataset.id);
const nameOf = (tile) => $(".picture", tile).alt;
const isFavorite = (tile) => $(".like", tile).getAttribute("aria-pressed") === "true";
const setFavorite = (tile, to) => $(".like", tile).setAttribute("aria-pressed", String(to));
const tagsOf = (tile) => (tile.dataset.tags ? tile.dataset.tags.split(",") : []);
