// What every page of somebody who is signed in does: bring the worker, tell what became of changes that were made
// offline, and leave nothing behind at sign-out.

import { csrf } from "./api.js";
import { $, $$, workerUrl } from "./dom.js";
import { forget } from "./kept.js";
import { isOffline, noteOffline, onBack } from "./network.js";
import { sendQueue, takeRefused, waiting } from "./queue.js";
import { say } from "./say.js";
import { clear, reopen } from "./store.js";
import { t } from "./texts.js";

const workers = navigator.serviceWorker; // none where the address is not safe: plain http, but for this machine
const FORGETS_MS = 5000;
const ANSWERS_MS = 10_000;
const RELOAD = { label: t("app.reload"), run: () => location.reload() };

/** Tell what became of changes that were sent: {sent}, and those that were refused. */
async function tell({ sent = 0 } = {}) {
  if (sent) say(t("offline.sent", { n: sent }));
  for (const { label, refused } of await takeRefused()) {
    say(t("offline.refused", { label, reason: refused }), { isError: true });
  }
}

async function send() {
  if ((await waiting()).length) await tell(await sendQueue(csrf));
  else await tell(); // the worker may have been faster
}

/** Let the worker keep what this page shows, since it was not there, or another, when that was fetched. */
function catchUp() {
  const pictures = $$("img").map((image) => image.currentSrc).filter(Boolean);
  workers.controller?.postMessage({ seen: [location.pathname + location.search, ...pictures] });
}

function bringWorker() {
  const before = workers.controller;
  workers.addEventListener("controllerchange", () => {
    catchUp();
    if (before) say(t("app.updated"), { action: RELOAD });
  });
  const [navigation] = performance.getEntriesByType("navigation");
  if (before && !navigation.workerStart) catchUp(); // it came between this page's request and this line
  workers.addEventListener("message", (event) => tell(event.data.queue).catch(console.error));
  workers.register(workerUrl("/worker.js"), { type: "module" }).catch(console.warn);
}

async function leave(event) {
  event.preventDefault();
  const form = event.target;
  // A browser that keeps nothing has nothing to forget. One that is slow at it may go on: once signed out, the proxy's
  // answer clears it all again.
  const isForgotten = Promise.allSettled([clear(), window.caches && forget()]);
  await Promise.race([isForgotten, new Promise((resolve) => setTimeout(resolve, FORGETS_MS))]);
  try {
    await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(ANSWERS_MS) });
    form.submit();
  } catch {
    reopen();
    noteOffline();
    say(t("offline.no_sign_out"), { isError: true });
  }
}

onBack((since) => {
  say(t("offline.back"), since ? { action: RELOAD } : {});
  send().catch(console.error);
});
if (!isOffline()) send().catch(console.warn);
if (workers) addEventListener("load", bringWorker);
$('form[action="/logout"]')?.addEventListener("submit", leave);
