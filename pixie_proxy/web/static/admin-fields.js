// What a form of the admin's pages says, as the JSON that /v1/admin takes.

import { $, $$, make } from "./dom.js";

/** Read a form: fields by name, chosen boxes as lists, `data-type="json"` as what they mean, limits as an object. */
export function fieldsOf(form) {
  const said = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled) continue;
    if (field.type === "checkbox") {
      said[field.name] ??= [];
      if (field.checked) said[field.name].push(field.value);
    } else {
      said[field.name] = field.dataset.type === "json" ? JSON.parse(field.value) : field.value;
    }
  }
  for (const [name, value] of Object.entries(said)) if (value === null) delete said[name];
  const limits = $$("[data-limit]", form);
  if (limits.length) said.limits = Object.fromEntries(limits.map((limit) => [limit.dataset.limit, limitOf(limit)]));
  return said;
}

/** Put into a form what counts now: `limits` by name and a list of `models`. */
export function putFields(form, { limits, models }) {
  for (const limit of $$("[data-limit]", form)) {
    const value = limits[limit.dataset.limit] ?? "";
    $("select", limit).value = value === "" ? "default" : "own";
    $("input", limit).value = value;
  }
  for (const box of $$('[name="models"]', form)) box.checked = models.includes(box.value);
}

/** Tell beside the field that the proxy names what is wrong with it, and go there. Gives whether there is such a field. */
export function tellBeside(form, { param, message }) {
  const name = CSS.escape((param ?? "").replace("limits.", ""));
  const field = $(`[data-limit="${name}"] input:enabled, [name="${name}"]:enabled:not([type="hidden"])`, form);
  if (!field) return false;
  field.closest("details")?.setAttribute("open", "");
  field.closest("[data-limit], .checks, label").after(make("p", { class: "error", role: "alert", id: "wrong" }, message));
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "wrong");
  field.focus();
  return true;
}

/** Take back what was told beside a field. */
export function takeBack() {
  $("#wrong")?.remove();
  for (const field of $$("[aria-describedby='wrong']")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}

/** A number, null for no limit, or "default" for the general one. */
function limitOf(limit) {
  const chosen = $("select", limit).value;
  return chosen === "own" ? $("input", limit).valueAsNumber : chosen === "none" ? null : "default";
}

/** Show the number of a limit where it counts. */
export function followLimits() {
  for (const limit of $$("[data-limit]")) $("input", limit).disabled = $("select", limit).value !== "own";
}

document.addEventListener("input", (event) => event.target.matches("[aria-describedby='wrong']") && takeBack());
document.addEventListener("change", (event) => {
  const limit = event.target.closest("[data-limit]");
  if (!limit || event.target.localName !== "select") return;
  followLimits();
  if (event.target.value === "own") $("input", limit).focus();
});
