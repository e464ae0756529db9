// The tags of an image, and the collections that it lies in.

import { ApiError, call } from "./api.js";
import { $, $$ } from "./dom.js";
import { attempt, imageId, renew } from "./image-parts.js";
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
  await changed("/v1/images/bulk", { ids: [imageId], action, tags });
  if (action === "untag") $('[data-add="tag"] input').focus();
}

/** Put the image into one's collection of that name, which is made if there is none. */
async function collect(name) {
  const known = $$("#own-collections option").find((option) => option.value === name);
  const { id } = known ? known.dataset : await call("POST", "/v1/collections", { json: { name } });
  await fill(id, { add: [imageId] });
  say(t("image.collected", { collection: name }));
}

async function fill(id, change) {
  await changed(`/v1/collections/${id}/images`, change);
  if (change.remove) $('[data-add="collection"] input').focus();
}

/** Send a change of many images, which is of this one alone. Throws ApiError. */
async function changed(path, json) {
  const { data } = await call("POST", path, { json });
  const { error } = data[0];
  if (error) throw new ApiError(error.code === "not_found" ? 404 : 400, error);
  await renew("shelves");
}
