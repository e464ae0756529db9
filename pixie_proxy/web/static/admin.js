// The admin's pages: forms that call /v1/admin, dialogs that ask before, keys that are shown once, an overview that stays fresh.
// Every figure comes from the server: after a change its part of the page is fetched anew.

import { call } from "./api.js";
import { $, $$, fetchPage } from "./dom.js";
import { say, tellError } from "./say.js";
import { fieldsOf, followLimits, putFields, takeBack, tellBeside } from "./admin-fields.js";
import { reveal } from "./admin-secret.js";

/** Make what needs a script usable: it is dead without one. */
function wake() {
  for (const element of $$('[data-needs-script=""]')) element.disabled = false;
  followLimits();
}

/** Fetch what the page shows anew, keeping the focus and the place. */
async function refresh() {
  const fresh = $("#live", await fetchPage(location.pathname + location.search));
  const focused = document.activeElement?.id;
  $("#live").replaceChildren(...document.adoptNode(fresh).childNodes);
  wake();
  if (focused) (document.getElementById(focused) ?? $("#title")).focus();
}

/** Do what a form is for: `data-call` says what is asked, `data-next` and `data-done` what comes after it. */
async function send(form) {
  const dialog = form.closest("dialog");
  const focused = document.activeElement;
  const said = await ask(form).catch((error) => tell(form, error, focused));
  if (!said) return;
  const from = dialog?.opener ?? focused?.id;
  dialog?.close();
  const key = said.key ?? said.first_key?.key;
  if (key) await reveal(key);
  if (form.dataset.next) return location.assign(form.dataset.next);
  await refresh();
  (document.getElementById(from) ?? $("#title")).focus();
  if (form.dataset.done) say(form.dataset.done);
}

/** Ask the proxy for it, once: nothing in the form can be pressed until it has answered. */
async function ask(form) {
  const [method, path] = form.dataset.call.split(" ");
  const fields = fieldsOf(form);
  const buttons = $$("button", form).filter((button) => !button.disabled);
  for (const button of buttons) button.disabled = true;
  forget(form);
  try {
    const query = form.dataset.in === "query" ? `?${new URLSearchParams(fields)}` : "";
    const isBare = query || method === "DELETE";
    return await call(method, path + query, isBare ? {} : { json: fields });
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

/** Tell what went wrong: beside its field if it has one, at the head of the form, or of the page. */
function tell(form, error, focused) {
  if (tellBeside(form, error)) return;
  focused?.focus();
  const fault = $(".error[hidden]", form);
  if (!fault) return tellError(error);
  fault.textContent = error.message;
  fault.hidden = false;
  fault.scrollIntoView({ block: "nearest" });
}

/** Forget what went wrong the last time. */
function forget(form) {
  takeBack();
  for (const fault of $$(".error", form)) fault.hidden = true;
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.call) return;
  event.preventDefault();
  send(event.target).catch(tellError);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-open], [data-close]");
  if (!button) return;
  if ("close" in button.dataset) return button.closest("dialog").close();
  const dialog = document.getElementById(button.dataset.open);
  const form = $("form", dialog);
  form.reset();
  forget(form);
  if (button.dataset.fields) putFields(form, JSON.parse(button.dataset.fields));
  followLimits();
  if (button.dataset.path) {
    form.dataset.call = `${form.dataset.call.split(" ")[0]} ${button.dataset.path}`;
    $("[data-slot]", form).textContent = button.dataset.name;
  }
  dialog.opener = button.id;
  dialog.showModal();
});

// The overview looks again by itself while somebody looks at it.
const every_s = Number($("[data-refresh-s]")?.dataset.refreshS ?? 0);
if (every_s) setInterval(() => document.visibilityState === "visible" && refresh().catch(() => {}), every_s * 1000);

wake();
