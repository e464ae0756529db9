// The page of one image: what can be done there without a reload. Each part of the page has a module of its own.

import { call } from "./api.js";
import { copyText } from "./copy.js";
import { $, $$ } from "./dom.js";
import { startKeys } from "./image-keys.js";
import { attempt, imagePath, renew } from "./image-parts.js";
import { startPicture } from "./image-picture.js";
import { startShares } from "./image-shares.js";
import { startShelves } from "./image-shelves.js";
import { say } from "./say.js";
import { t } from "./texts.js";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copyText(document.getElementById(button.dataset.copy).textContent);
});

const like = $("#like");
like.addEventListener("click", () =>
  attempt(async () => {
    const likes = like.getAttribute("aria-pressed") !== "true";
    like.setAttribute("aria-pressed", likes);
    try {
      await call(likes ? "POST" : "DELETE", `${imagePath}/favorite`);
    } catch (error) {
      like.setAttribute("aria-pressed", !likes);
      throw error;
    }
  }),
);

/** Save who may see the image at once, and offer the way back. What was narrowed has lost its links for good. */
async function show(visibility) {
  const select = $("#visibility select");
  const before = select.dataset.saved;
  try {
    await call("POST", imagePath, { json: { visibility } });
  } catch (error) {
    select.value = before;
    throw error;
  }
  select.value = select.dataset.saved = visibility;
  await renew("facts");
  const who = t(`image.seen_by.${visibility}`);
  return say(t("image.now_seen", { who }), { action: { label: t("image.undo"), run: () => show(before) } });
}

for (const select of $$("#visibility select")) {
  select.dataset.saved = select.value;
  select.addEventListener("change", () => attempt(() => show(select.value)));
}
$("#visibility")?.addEventListener("submit", (event) => event.preventDefault());

startPicture();
startShelves();
startShares();
startKeys();
