// The service worker: it stands between the pages and the network. The network goes first, always; only where it gives
// no answer at all comes what was seen before, and says so. Paid calls and all other changes pass it by.

import { cacheName, drop, eraNow, find, forget, forgetOthers, keep, keepFor, keptAt } from "./kept.js";
import { sendQueue } from "./queue.js";
import { all, put, remove } from "./store.js";

const PAGES = /^\/(create|images\/img_[0-9a-v]{26})?$/; // not usage and admin: old figures mislead
const PICTURE = /^(\/v1\/images\/img_[0-9a-v]{26})\/(thumbnail|content)$/;
const STATIC = /^\/static\/[^/]+\/([^/]+)$/;
const NO_PAGES = /^\/(v1|s|i|public)\//; // downloads; and what strangers are shown, which is not of the app
const SHARED_FILES = { most: 16, most_bytes: 50e6, shares: 3 };

let told; // {version, files, offline}

/** Begin to serve a version: `files` are the addresses of its shell, `offline` that of the page for what is not kept. */
export function serve(given) {
  told = given;
  keepFor(told.version);
  self.addEventListener("install", (event) => event.waitUntil(install()));
  self.addEventListener("activate", (event) => event.waitUntil(activate()));
  self.addEventListener("fetch", answer);
  self.addEventListener("sync", (event) => event.waitUntil(sync()));
  self.addEventListener("message", (event) => event.waitUntil(catchUp(event.data.seen)));
}

async function install() {
  const shell = await caches.open(cacheName("shell"));
  await Promise.all([...told.files, told.offline].map(async (address) => {
    const response = await fetch(address);
    const isOther = STATIC.test(address) && response.headers.get("ETag") !== `"${told.version}"`;
    if (!response.ok || isOther) throw new Error(`${address} is not to be had`); // an upgrade goes on: later
    await shell.put(address, response);
  }));
  await self.skipWaiting(); // whatever it serves is the network's, so open pages lose nothing
}

async function activate() {
  await forgetOthers();
  await self.clients.claim();
}

function answer(event) {
  const { request } = event;
  const url = new URL(request.url);
  if (url.origin !== location.origin) return;
  if (request.method === "POST") {
    if (url.pathname === "/create/incoming") event.respondWith(take(request));
    // Another site may send these too, but then loses somebody no more than copies. What waits in IndexedDB is cleared by
    // those who know that it was meant: the page itself, and the proxy's answer.
    if (["/login", "/logout"].includes(url.pathname)) event.waitUntil(forget());
  }
  const respond = request.method === "GET" && responder(request, url);
  if (respond) event.respondWith(respond((work) => event.waitUntil(work.catch(() => {})))); // room, or time, ran out
}

/** Find who answers a GET: a function that takes `later`, to which goes what need not be waited for. */
function responder(request, url) {
  if (STATIC.test(url.pathname)) return () => part(request, url);
  const isVisit = request.mode === "navigate";
  const [, , what] = PICTURE.exec(url.pathname) ?? [];
  if ((what === "thumbnail" && !isVisit) || (what === "content" && request.destination === "image")) {
    return (later) => picture(request, url, later);
  }
  const isPage = isVisit || request.headers.get("Accept") === "text/html";
  return isPage && !NO_PAGES.test(url.pathname) ? (later) => page(request, url, later) : null;
}

/** A file of the shell: its address says what is in it. One of another version is the network's, or else ours. */
async function part(request, url) {
  const shell = await caches.open(cacheName("shell"));
  const ours = url.pathname.replace(STATIC, `/static/${told.version}/$1`);
  if (ours === url.pathname) return (await shell.match(ours, { ignoreVary: true })) ?? fetch(request);
  return fetch(request).catch(async () => (await shell.match(ours, { ignoreVary: true })) ?? Response.error());
}

async function page(request, url, later) {
  const begun = eraNow();
  let response;
  try {
    response = await fetch(request);
  } catch {
    return keptPage(request, url);
  }
  const isSignIn = new URL(response.url || url).pathname === "/login";
  if (isSignIn && response.ok) later(forget()); // the form is for those who have no session
  else if (PAGES.test(url.pathname)) {
    if (response.ok) later(keep("pages", address(url), response.clone(), begun));
    else if (response.status === 404) later(drop("pages", address(url)));
  }
  return response;
}

async function keptPage(request, url) {
  const kept = await find("pages", address(url));
  if (kept) {
    const at = new Date(keptAt(kept)).toISOString();
    const html = (await kept.text()).replace("<html ", `<html data-offline="${at}" `);
    return new Response(html, { headers: kept.headers });
  }
  if (request.mode !== "navigate") return Response.error();
  const shell = await caches.open(cacheName("shell"));
  const response = await shell.match(told.offline, { ignoreVary: true });
  return response ? new Response(response.body, { status: 503, headers: response.headers }) : Response.error();
}

/** A thumbnail, or an image: of which only a thumbnail is kept, and stands in for it. */
async function picture(request, url, later) {
  const begun = eraNow();
  const [, image, what] = PICTURE.exec(url.pathname);
  let response;
  try {
    response = await fetch(request);
  } catch {
    return (what === "thumbnail" && (await find("thumbnails", address(url))))
      || (request.destination === "image" && (await find("thumbnails", `${image}/thumbnail`, { ignoreSearch: true })))
      || Response.error();
  }
  if (response.status === 401) later(forget());
  else if ([403, 404].includes(response.status)) later(drop("thumbnails", `${image}/thumbnail`));
  else if (what === "thumbnail" && isToKeep(response)) later(keep("thumbnails", address(url), response.clone(), begun));
  return response;
}

const isToKeep = (response) =>
  response.status === 200 && !response.headers.get("Cache-Control")?.includes("no-store"); // that is a placeholder

const address = (url) => url.pathname + url.search;

/** Keep what a page showed that had no worker when it was opened, or another. */
async function catchUp(seen) {
  const urls = seen.map((each) => new URL(each, location.origin)).filter((url) => url.origin === location.origin);
  await Promise.all(urls.map(async (url) => {
    const request = new Request(url, { headers: PAGES.test(url.pathname) ? { Accept: "text/html" } : {} });
    const works = [];
    const response = await responder(request, url)?.((work) => works.push(work));
    await Promise.all([response?.blob(), ...works]);
  }));
}

/** Take what a phone shares to the app: it goes nowhere but to the page where images are made. */
async function take(request) {
  const to = (what) => Response.redirect(`/create?incoming=${what}`, 303);
  try {
    const form = await request.formData();
    const files = form.getAll("files").filter((file) => file instanceof File && file.size <= SHARED_FILES.most_bytes);
    const text = ["title", "text", "url"].map((name) => form.get(name)).filter(Boolean).join("\n");
    const older = await all("incoming");
    for (const each of older.slice(0, older.length - SHARED_FILES.shares + 1)) await remove("incoming", each.id);
    await put("incoming", { id: new Date().toISOString(), files: files.slice(0, SHARED_FILES.most), text });
    return to("1");
  } catch (error) {
    console.error(error);
    return to("missed");
  }
}

/** Send what waits. If some of it still waits then, the browser is told, and tries again. */
async function sync() {
  const done = await sendQueue();
  for (const client of await self.clients.matchAll()) client.postMessage({ queue: done });
  if (done.left) throw new Error(`${done.left} still wait`);
}
