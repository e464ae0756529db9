// Put text on the clipboard, also where the browser does not call this page secure (http in a team's own network).

import { make } from "./dom.js";
import { say } from "./say.js";
import { t } from "./texts.js";

/** Copy a text and tell that it was done. */
export async function copyText(text) {
  const done = await (navigator.clipboard?.writeText(text).then(() => true, () => copyOld(text)) ?? copyOld(text));
  if (done) say(t("image.copied"));
  else say(t("image.not_copied"), { isError: true });
}

function copyOld(text) {
  const before = document.activeElement;
  const field = make("textarea", { class: "only-read", readonly: true });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
