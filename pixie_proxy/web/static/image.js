// The page of one image: what can be done there without a reload. Each part of the page has a module of its own.

import { callOrQueue } from "./api.js";
import { labelOf, sayDone, toggleFavorite, trash, untrash } from "./changes.js";
import { copyText } from "./copy.js";
import { $, $$ } from "./dom.js";
import { startKeys } from "./image-keys.js";
import { attempt, imageId, imageName, imagePath, renew } from "./image-parts.js";
import { startPicture } from "./image-picture.js";
import { startShares } from "./image-shares.js";
import { startShelves } from "./image-shelves.js";
import { t } from "./texts.js";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copyText(document.getElementById(button.dataset.copy).textContent);
});

const like = $("#like");
like.addEventListener("click", () => attempt(() => toggleFavorite(like, imageId, imageName)));

/** Save who may see the image at once, and offer the way back. What was narrowed has lost its links for good. */
async function show(visibility) {
  const select = $("#visibility select");
  const before = select.dataset.saved;
  let saved;
  try {
    saved = await callOrQueue("POST", imagePath, { json: { visibility } }, labelOf("visibility", [imageName]));
  } catch (error) {
    select.value = before;
    throw error;
  }
  select.value = select.dataset.saved = visibility;
  if (saved) await renew("facts");
  sayDone(t("image.now_seen", { who: t(`image.seen_by.${visibility}`) }), () => show(before));
}

for (const select of $$("#visibility select")) {
  select.dataset.saved = select.value;
  select.addEventListener("change", () => attempt(() => show(select.value)));
}
$("#visibility")?.addEventListener("submit", (event) => event.preventDefault());

/** Delete it and go where the form leads; while that waits the page stays, for the way back is here. */
async function remove(button) {
  if (await trash(imageId, imageName)) return location.assign(`/?trashed=${imageId}`);
  button.disabled = true;
  return sayDone("", async () => {
    await untrash(imageId, imageName);
    button.disabled = false;
  });
}

$("#delete")?.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => remove($("button", event.target)));
});

startPicture();
startShelves();
startShares();
startKeys();
