// A new key, shown once: it is never in an address nor kept, and gone from the page when the dialog closes or the page is left.

import { isCopied } from "./copy.js";
import { $ } from "./dom.js";
import { t } from "./texts.js";

const dialog = $("#secret");
const field = $("#secret-text");

/** Show a key until whoever reads it says that it is kept. */
export function reveal(text) {
  field.value = text;
  $("[data-copy] span", dialog).textContent = t("admin.copy");
  dialog.showModal();
  field.select();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(forget()), { once: true }));
}

function forget() {
  if (field) field.value = "";
}

async function copy() {
  const isDone = await isCopied(field.value);
  field.select();
  $("[data-copy] span", dialog).textContent = isDone ? t("admin.copied") : t("admin.not_copied");
}

$("[data-copy]", dialog ?? document)?.addEventListener("click", copy);
$("[data-close]", dialog ?? document)?.addEventListener("click", forget); // "close" comes a moment after it is closed
dialog?.addEventListener("cancel", (event) => event.preventDefault()); // Esc by mistake would lose it
window.addEventListener("pagehide", forget);
