// What every page of somebody who is signed in does: tell whether the network is there, and leave nothing behind.

import { $ } from "./dom.js";
import { say } from "./say.js";
import { clear } from "./store.js";
import { t } from "./texts.js";

window.addEventListener("offline", () => say(t("site.offline")));
window.addEventListener("online", () => say(t("site.online")));

$('form[action="/logout"]')?.addEventListener("submit", async (event) => {
  event.preventDefault();
  await clear().catch(console.error); // a browser that keeps nothing has nothing to forget
  event.target.submit();
});
