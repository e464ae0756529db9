// Tell people what happened: short notices at the foot of the page, which screen readers read out.

import { $, make } from "./dom.js";
import { t } from "./texts.js";

const SHOWN_MS = 8000;

/** Show a notice. `action` is {label, run}: a button in it, such as Undo; it stays longer then, and while it is in use. */
export function say(text, { action = null, isError = false } = {}) {
  const notice = make("div", { class: isError ? "toast bad" : "toast" }, make("p", {}, text));
  const close = () => notice.remove();
  if (action) {
    const press = told(() => {
      close();
      return action.run();
    });
    notice.append(make("button", { type: "button", onclick: press }, action.label));
  }
  notice.append(make("button", { type: "button", class: "quiet", "aria-label": t("site.close"), onclick: close }, "×"));
  $("#toasts").append(notice);
  const leave = () => (notice.matches(":hover, :focus-within") ? setTimeout(leave, SHOWN_MS) : close());
  setTimeout(leave, action ? 2 * SHOWN_MS : SHOWN_MS);
  return notice;
}

/** Show what went wrong. An aborted request is nobody's fault. */
export function tellError(error) {
  if (error.name === "AbortError") return;
  if (error.name !== "ApiError") console.error(error);
  say(t("site.failed", { reason: error.message }), { isError: true });
}

/** Make a listener of some work, which may be asynchronous, that tells what went wrong. */
export const told = (work) => async (...given) => {
  try {
    await work(...given);
  } catch (error) {
    tellError(error);
  }
};
