// What a form of the admin's pages says, as the JSON that /v1/admin takes.

import { $, $$ } from "./dom.js";

/** Read a form: fields by name, chosen boxes as lists, `data-type="json"` as what they mean, limits as an object. */
export function fieldsOf(form) {
  const said = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled) continue;
    if (field.type === "checkbox") {
      if (field.checked) (said[field.name] ??= []).push(field.value);
    } else {
      said[field.name] = field.dataset.type === "json" ? JSON.parse(field.value) : field.value;
    }
  }
  for (const [name, value] of Object.entries(said)) if (value === null) delete said[name];
  const limits = $$("[data-limit]", form);
  if (limits.length) said.limits = Object.fromEntries(limits.map((limit) => [limit.dataset.limit, limitOf(limit)]));
  return said;
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

document.addEventListener("change", (event) => {
  const limit = event.target.closest("[data-limit]");
  if (!limit || event.target.localName !== "select") return;
  followLimits();
  if (event.target.value === "own") $("input", limit).focus();
});
