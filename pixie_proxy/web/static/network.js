// Whether the proxy can be reached, as pages show it: <html data-offline>, a line at the top, and what needs it put out of
// reach (elements with `data-online`). A page that came out of the worker begins offline; it says since when.

import { $, $$ } from "./dom.js";
import { t } from "./texts.js";
import { waiting } from "./queue.js";

const LOOKED_EVERY_MS = 5000;
const root = document.documentElement;
const back = new EventTarget();

let timer;

/** Tell whether the proxy was out of reach when it was last asked. */
export const isOffline = () => "offline" in root.dataset;

/** Tell since when this page has not been the proxy's: a Date, or null for one that is as it was sent. */
const keptSince = () => (root.dataset.offline ? new Date(root.dataset.offline) : null);

/** Call `work` each time that the proxy can be reached again; it is given when the page was kept, or null. */
export const onBack = (work) => back.addEventListener("back", (event) => work(event.detail));

/** Note that the proxy could not be reached. */
export function noteOffline() {
  if (!isOffline()) root.dataset.offline = "";
  show();
}

/** Note that the proxy has answered. */
export async function noteOnline() {
  if (!isOffline()) return;
  const since = keptSince();
  delete root.dataset.offline;
  await show();
  back.dispatchEvent(new CustomEvent("back", { detail: since }));
}

/** Write anew how many changes wait. */
export async function show() {
  const offline = isOffline();
  for (const element of $$("[data-online]")) element.inert = offline;
  clearInterval(timer);
  if (offline) timer = setInterval(look, LOOKED_EVERY_MS);
  const changes = offline ? (await waiting().catch(() => [])).length : 0;
  const since = keptSince();
  const when = since?.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  const said = [since ? t("offline.seen", { when }) : t("offline.now")];
  if (changes) said.push(t("offline.waiting", { n: changes }));
  const text = isOffline() ? said.join(" ") : "";
  const line = $("#away");
  if (line && line.textContent !== text) line.textContent = text; // it is read out when it changes
}

async function look() {
  if (document.hidden || !isOffline()) return;
  try {
    await fetch("/healthz", { cache: "no-store" });
  } catch {
    return;
  }
  await noteOnline();
}

window.addEventListener("offline", noteOffline);
window.addEventListener("online", look);
document.addEventListener("visibilitychange", look);
if (isOffline() || !navigator.onLine) noteOffline();
