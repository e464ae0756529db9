// What the modules of the image's page share: where it is, how a part of it is taken anew, and what to say if it is gone.

import { $, fetchPage } from "./dom.js";
import { say, tellError } from "./say.js";
import { t } from "./texts.js";

/** The image's address in the JSON API. */
export const imagePath = `/v1/images/${$("article.image").dataset.id}`;

/** Take parts of the page anew, by their ids: the server writes them, so nothing is built twice. */
export async function renew(...ids) {
  const fresh = await fetchPage(location.pathname + location.search);
  for (const id of ids) {
    const part = fresh.getElementById(id);
    if (part) document.getElementById(id)?.replaceWith(part);
  }
}

/** Do something, and tell what went wrong. An image that vanished meanwhile is told as that. */
export async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (error.status === 404) say(t("image.vanished"), { isError: true });
    else tellError(error);
  }
}
