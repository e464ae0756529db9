// The tags of an image, and the collections that it lies in.

import { call } from "./api.js";
import { $, $$ } from "./dom.js";
import { attempt, imagePath, renew } from "./image-parts.js";
import { say } from "./say.js";
import { t } from "./texts.js";

const imageId = imagePath.split("/").pop();

/** Listen above the part, which is taken anew after each change. */
export function startShelves() {
  document.addEventListener("click", (event) => {
    const { untag, take } = event.target.closest("[data-untag], [data-take]")?.dataset ?? {};
    if (untag !== undefined) attempt(() => setTags(tags().filter((tag) => tag !== untag)));
    if (take !== undefined) attempt(() => fill(take, { remove: [imageId] }));
  });
  document.addEventListener("submit", (event) => {
    const { add } = event.target.dataset;
    if (!add) return;
    event.preventDefault();
    const text = $("input", event.target).value.trim();
    if (text) attempt(() => (add === "tag" ? setTags([...tags(), ...text.split(",").filter((tag) => tag.trim())]) : collect(text)));
  });
}

const tags = () => $$("[data-untag]").map((button) => button.dataset.untag);

async function setTags(wanted) {
  await call("POST", imagePath, { json: { tags: wanted } });
  await renew("shelves");
  $('[data-add="tag"] input').focus();
}

/** Put the image into one's collection of that name, which is made if there is none. */
async function collect(name) {
  const known = $$("#own-collections option").find((option) => option.value === name);
  const { id } = known ? known.dataset : await call("POST", "/v1/collections", { json: { name } });
  await fill(id, { add: [imageId] });
  say(t("image.collected", { collection: name }));
}

async function fill(id, change) {
  const { data } = await call("POST", `/v1/collections/${id}/images`, { json: change });
  const { error } = data[0];
  if (error) throw Object.assign(new Error(error.message), { name: "ApiError", status: error.code === "not_found" ? 404 : 400 });
  await renew("shelves");
  $('[data-add="collection"] input').focus();
}
