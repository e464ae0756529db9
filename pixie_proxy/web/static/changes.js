// Changes of images that may wait while the proxy can't be reached: what they are called, and what people are told of them.

import { callOrQueue } from "./api.js";
import { isOffline } from "./network.js";
import { say } from "./say.js";
import { t } from "./texts.js";

const MOST_CHARACTERS = 60;

/** Name a change for the time that it waits; `names` are those of its images. */
export function labelOf(act, names) {
  const [name] = names;
  const short = name.length > MOST_CHARACTERS ? `${name.slice(0, MOST_CHARACTERS)}…` : name;
  return t(`offline.change.${act}`, { what: names.length === 1 ? short : t("offline.images", { n: names.length }) });
}

/** Tell what was done, with the way back. What waits was told already: only the way back is added. */
export function sayDone(text, undo = null) {
  if (isOffline() && !undo) return;
  say(isOffline() ? t("offline.unsent") : text, { action: undo && { label: t("site.undo"), run: undo } });
}

/** Turn a heart at once, and back if the proxy says no. Throws ApiError. */
export async function toggleFavorite(heart, imageId, name) {
  const to = heart.getAttribute("aria-pressed") !== "true";
  heart.setAttribute("aria-pressed", to);
  try {
    const label = labelOf(to ? "favorite" : "unfavorite", [name]);
    await callOrQueue(to ? "POST" : "DELETE", `/v1/images/${imageId}/favorite`, {}, label);
  } catch (error) {
    heart.setAttribute("aria-pressed", !to);
    throw error;
  }
}

/** Put an image into the trash. Gives null where that waits. Throws ApiError. */
export const trash = (imageId, name) => callOrQueue("DELETE", `/v1/images/${imageId}`, {}, labelOf("delete", [name]));

/** Take an image out of the trash. Gives null where that waits. Throws ApiError. */
export const untrash = (imageId, name) =>
  callOrQueue("POST", `/v1/images/${imageId}/restore`, {}, labelOf("restore", [name]));
