// The tags of an image, and the collections that it lies in.

import { ApiError, call, callOrQueue } from "./api.js";
import { labelOf } from "./changes.js";
import { $, $$, make } from "./dom.js";
import { attempt, imageId, imageName, renew } from "./image-parts.js";
import { say } from "./say.js";
import { t } from "./texts.js";

/** Listen above the part, which is taken anew after each change. */
export function startShelves() {
  document.addEventListener("click", (event) => {
    const { untag, take } = event.target.closest("[data-untag], [data-take]")?.dataset ?? {};
    if (untag !== undefined) attempt(() => tag("untag", [untag]));
    if (take !== undefined) attempt(() => fill(take, { remove: [imageId] }));
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const { add } = form.dataset;
    if (!add) return;
    event.preventDefault();
    const field = $("input", form);
    const text = field.value.trim();
    if (!text) return;
    form.reset();
    attempt(() => (add === "tag" ? tag("tag", text.split(",").filter((each) => each.trim())) : collect(text)));
  });
}

/** Give or take tags one by one: two people who do so at once both get what they want. */
async function tag(action, tags) {
  const json = { ids: [imageId], action, tags };
  const answer = await callOrQueue("POST", "/v1/images/bulk", { json }, labelOf(action, [imageName]));
  if (answer) await renewed(answer);
  else showTags(action, tags);
  if (action === "untag") $('[data-add="tag"] input').focus();
}

/** Show what the server can't write now. */
function showTags(action, tags) {
  const shown = new Map($$("[data-untag]").map((button) => [button.dataset.untag, button.closest("li")]));
  for (const each of tags) {
    if (action === "untag") shown.get(each)?.remove();
    else if (!shown.has(each)) $('[data-add="tag"]').parentElement.querySelector("ul").append(make("li", { class: "chip" }, each));
  }
}

/** Put the image into one's collection of that name, which is made if there is none. */
async function collect(name) {
  const known = $$("#own-collections option").find((option) => option.value === name);
  const { id } = known ? known.dataset : await call("POST", "/v1/collections", { json: { name } });
  await fill(id, { add: [imageId] });
  say(t("image.collected", { collection: name }));
}

async function fill(id, change) {
  await renewed(await call("POST", `/v1/collections/${id}/images`, { json: change }));
  if (change.remove) $('[data-add="collection"] input').focus();
}

/** Show what came of a change of many images, which is of this one alone. Throws ApiError. */
async function renewed({ data }) {
  const { error } = data[0];
  if (error) throw new ApiError(error.code === "not_found" ? 404 : 400, error);
  await renew("shelves");
}
