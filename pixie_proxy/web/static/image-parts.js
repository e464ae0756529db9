// What the modules of the image's page share: where it is, how a part of it is taken anew, and what to say if it is gone.

import { $, $$, fetchPage } from "./dom.js";
import { say, tellError } from "./say.js";
import { t } from "./texts.js";

/** The image's id, and its address in the JSON API. */
export const imageId = $("article.image").dataset.id;
export const imagePath = `/v1/images/${imageId}`;

/** What people call it: its prompt. */
export const imageName = $("#picture").alt;

/** Take parts of the page anew, by their ids: the server writes them, so nothing is built twice. */
export async function renew(...ids) {
  const fresh = await fetchPage(location.pathname + location.search);
  for (const id of ids) {
    const [before, after] = [document.getElementById(id), fresh.getElementById(id)];
    if (!before || !after) continue;
    const focused = before.contains(document.activeElement) && document.activeElement.name;
    const typed = $$("input[type=text], input:not([type])", before).filter((field) => field.value);
    before.replaceWith(after);
    for (const { name, value } of typed) $(`[name="${name}"]`, after).value = value; // who types is faster than we are
    if (focused) $(`[name="${focused}"]`, after)?.focus();
  }
}

let running = Promise.resolve();

/** Do something after what was begun before, and tell what went wrong. An image that vanished meanwhile is told as that. */
export function attempt(work) {
  running = running.then(work).catch((error) => {
    if (error.status === 404) say(t("image.vanished"), { isError: true });
    else tellError(error);
  });
}
