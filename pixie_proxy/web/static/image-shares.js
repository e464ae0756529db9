// The shares of an image: made and revoked without a reload, by the forms that work without a script too.

import { call } from "./api.js";
import { $ } from "./dom.js";
import { attempt, imagePath, renew } from "./image-parts.js";
import { say } from "./say.js";
import { t } from "./texts.js";

/** Listen above the part, which is taken anew after each change. */
export function startShares() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("#shares form")) return;
    event.preventDefault();
    attempt(() => (form.matches(".revoke") ? revoke(form.dataset.share) : makeLink(form)));
  });
}

async function makeLink(form) {
  const seconds = form.lifetime.selectedOptions[0].dataset.seconds;
  const json = {
    expires_in_s: seconds ? Number(seconds) : null,
    password: form.password.value || null,
    show_prompt: form.show_prompt.checked,
  };
  const { url } = await call("POST", `${imagePath}/shares`, { json });
  form.reset();
  await renew("shares");
  const link = $("#share-link");
  link.href = link.textContent = url;
  $("#new-link").hidden = false;
  $("#new-link button").focus();
}

async function revoke(share) {
  await call("DELETE", `${imagePath}/shares/${share}`);
  await renew("shares");
  $("#shares").focus();
  say(t("image.shares.revoked"));
}
