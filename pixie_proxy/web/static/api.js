// Talk to the proxy's own API as the person who is signed in; its errors become ApiError.

import { noteOffline, noteOnline, show } from "./network.js";
import { enqueue, sendQueue, waiting } from "./queue.js";
import { say } from "./say.js";
import { isSigningOut } from "./store.js";
import { t } from "./texts.js";

/** What the proxy answered instead: OpenAI's envelope, whose message is written for people. */
export class ApiError extends Error {
  constructor(status, { message, code = null, param = null }, headers = new Headers()) {
    super(message);
    Object.assign(this, { name: "ApiError", status, code, param, headers });
  }
}

/** The session's token, which every change shows. */
export const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";

/** Send a request and give its Response, which is good. `json` or `form` (FormData) is its body. Throws ApiError. */
export async function send(method, path, { json, form, headers = {}, signal } = {}) {
  const said = { ...headers };
  if (method !== "GET") said["X-CSRF-Token"] = csrf;
  if (json !== undefined) said["Content-Type"] = "application/json";
  const body = json === undefined ? form : JSON.stringify(json);
  let response;
  try {
    response = await fetch(path, { method, headers: said, body, signal, redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    noteOffline();
    throw new ApiError(0, { message: t("site.unreachable"), code: "unreachable" });
  }
  noteOnline().catch(console.error);
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** Send a request and give the JSON of its answer. Throws ApiError. */
export async function call(method, path, options) {
  return (await send(method, path, options)).json();
}

let last = Promise.resolve();

/**
 * As `call`, for a change that may be made twice without harm: where the proxy can't be reached it is kept, told by its
 * `label` (“Favourite: A red fox”), and made when it can be. Gives null then. Changes are made one after another, in the
 * order in which they were asked for. Throws ApiError.
 */
export function callOrQueue(method, path, options, label) {
  const done = last.then(() => changeOrQueue(method, path, options, label));
  last = done.catch(() => {});
  return done;
}

async function changeOrQueue(method, path, options, label) {
  const doOthersWait = async () => (await waiting().catch(() => [])).length > 0;
  if (await doOthersWait()) await sendQueue(csrf); // they were first
  if (!(await doOthersWait())) {
    try {
      return await call(method, path, options);
    } catch (error) {
      if (error.code !== "unreachable") throw error;
    }
  }
  if (!(await enqueue({ method, path, json: options?.json, label, csrf }))) {
    throw new ApiError(0, { message: t("offline.full"), code: "unreachable" });
  }
  say(t("offline.kept", { label }));
  show();
  (await navigator.serviceWorker?.getRegistration())?.sync?.register("queue").catch(() => {}); // else a page sends it
  return null;
}

async function errorOf(response) {
  let error;
  try {
    ({ error } = await response.json());
  } catch {
    // a front proxy's page, perhaps: the status is all there is
  }
  if (response.status === 401 && !isSigningOut()) location.assign(`/login?next=${encodeURIComponent(here())}`);
  return new ApiError(response.status, error ?? { message: response.statusText || `${response.status}` }, response.headers);
}

function here() {
  return location.pathname + location.search;
}
