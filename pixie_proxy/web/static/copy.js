// Put text on the clipboard, also where the browser does not call this page secure (http in a team's own network).

import { $, make } from "./dom.js";
import { say } from "./say.js";
import { t } from "./texts.js";

/** Copy a text and tell that it was done. */
export async function copyText(text) {
  if (await isCopied(text)) say(t("image.copied"));
  else say(t("image.not_copied"), { isError: true });
}

/** Copy a text, and give whether that was done. */
export const isCopied = async (text) =>
  navigator.clipboard?.writeText(text).then(() => true, () => copyOld(text)) ?? copyOld(text);

function copyOld(text) {
  const before = document.activeElement;
  const field = make("textarea", { class: "only-read", readonly: true });
  field.value = text;
  ($("dialog[open]") ?? document.body).append(field); // behind an open dialog nothing can be selected
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
