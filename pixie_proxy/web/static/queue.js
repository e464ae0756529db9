// Changes that were made while the proxy could not be reached: they wait in IndexedDB and are sent in their order, by the
// worker or by a page, whichever comes first. Each may be sent twice, for an answer can be lost: only such are queued.

import { alone } from "./slots.js";
import { all, put, remove } from "./store.js";

const MOST = 200;
const GONE_WRONG = (status) => status >= 400 && status < 500 && ![401, 408, 425, 429].includes(status);

const user = globalThis.document?.querySelector('meta[name="user"]')?.content; // none in the worker

let count = 0;

/** Let a change wait: {method, path, json, label, csrf}; `label` says what it does. Gives whether there is room for it. */
export async function enqueue(change) {
  if ((await waiting()).length >= MOST) return false;
  const id = [Date.now(), String(count++).padStart(6, "0"), Math.random().toString(36).slice(2)].join("-");
  await put("queue", { ...change, user, id });
  return true;
}

/** Give the changes that wait, in their order. */
export async function waiting() {
  return (await all("queue")).filter((change) => !change.refused);
}

/** Take away the changes that the proxy refused, and give them: each has a `refused`, the proxy's reason. */
export function takeRefused() {
  return inTurn(async () => {
    const refused = (await all("queue")).filter((change) => change.refused);
    for (const change of refused) await remove("queue", change.id);
    return refused;
  });
}

/** Send what waits, with the token of a page or else each with its own. Gives {sent, refused, left} as numbers. */
export function sendQueue(csrf = null) {
  return inTurn(() => sendAll(csrf));
}

/** Do something while no other page, nor the worker, does it too; where there is no worker there are no locks either. */
const inTurn = (work) => alone("pixie-queue", undefined, work);

async function sendAll(csrf) {
  const done = { sent: 0, refused: 0, left: 0 };
  const changes = await waiting();
  for (const [n, change] of changes.entries()) {
    if (user && change.user !== user) {
      await remove("queue", change.id); // of a tab whose owner is not signed in any more
      continue;
    }
    const answer = await sendOne(change, csrf ?? change.csrf);
    if (answer === "left") return { ...done, left: changes.length - n }; // what follows may build on it
    if (answer === "sent") await remove("queue", change.id);
    else await put("queue", { ...change, refused: answer.refused });
    done[answer === "sent" ? "sent" : "refused"] += 1;
  }
  return done;
}

async function sendOne({ method, path, json }, csrf) {
  const headers = { "X-CSRF-Token": csrf };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: JSON.stringify(json), redirect: "error" });
  } catch {
    return "left";
  }
  const { error = {}, data = [] } = await response.json().catch(() => ({}));
  // Of many images that are changed at once, each is answered for.
  if (response.ok) return reasonsOf(data) ? { refused: reasonsOf(data) } : "sent";
  const isForLater = !GONE_WRONG(response.status) || error.code === "csrf_failed"; // a page with a new token comes
  return isForLater ? "left" : { refused: error.message ?? `${response.status}` };
}

const reasonsOf = (data) => [...new Set(data.filter((each) => each.error).map((each) => each.error.message))].join(" ");
