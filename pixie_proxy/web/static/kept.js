// What the worker keeps of what somebody has seen, for when there is no network: pages and thumbnails, within bounds.
// It lasts no longer than their session: whatever ends that calls `forget`.

const BOUNDS = {
  pages: { entries: 100, bytes: 10e6 },
  thumbnails: { entries: 600, bytes: 50e6 },
};
const SLACK = 1 / 20; // of the bounds: all are counted once so much has come, and as much room is made for what follows
const SESSION_IDLE_MS = 7 * 86_400_000; // a session that was not used for so long is over, at the proxy too
const AT = "x-pixie-kept"; // when it came, in ms since the epoch
const BYTES = "x-pixie-bytes";
const NEVER = ["content-encoding", "content-length", "set-cookie"]; // of the answer's way here, not of the answer

let version;
let era = 0; // one more each time that all is forgotten: what was asked for before is not kept after
const added = { pages: Infinity, thumbnails: Infinity }; // since the last count, in shares of the bounds; unknown at first
let turn = Promise.resolve();

/** Say which version keeps; its caches are its own. */
export function keepFor(given) {
  version = given;
}

/** Name a cache of this version. */
export const cacheName = (kind) => `pixie-${kind}-${version}`;

/** Tell which era it is. Take it before you ask for what you want to keep. */
export const eraNow = () => era;

/** Keep an answer under its address, unless all was forgotten since `begun`. `kind`: pages, thumbnails. */
export async function keep(kind, address, response, begun) {
  const body = await response.blob();
  const headers = new Headers(response.headers);
  for (const name of NEVER) headers.delete(name);
  headers.set(AT, Date.now());
  headers.set(BYTES, body.size);
  await inTurn(async () => {
    if (era !== begun) return;
    const cache = await caches.open(cacheName(kind));
    await cache.put(address, new Response(body, { headers }));
    const { entries, bytes } = BOUNDS[kind];
    added[kind] += Math.max(1 / entries, body.size / bytes);
    if (added[kind] < SLACK) return;
    await trim(cache, entries * (1 - SLACK), bytes * (1 - SLACK));
    added[kind] = 0;
  });
}

/** Give what is kept under an address, or undefined. `options` as those of `Cache.match`. */
export async function find(kind, address, options = {}) {
  const cache = await caches.open(cacheName(kind));
  const found = await cache.matchAll(address, { ignoreVary: true, ...options });
  const good = found.filter((each) => Date.now() - keptAt(each) < SESSION_IDLE_MS);
  return good.reduce((best, each) => (best && size(best) >= size(each) ? best : each), undefined);
}

/** Tell when an answer was kept, in ms since the epoch. */
export const keptAt = (response) => Number(response.headers.get(AT));

/** Throw one address away: what it showed is not theirs to see any more, or is gone. */
export const drop = (kind, address) =>
  inTurn(async () => (await caches.open(cacheName(kind))).delete(address, { ignoreVary: true, ignoreSearch: true }));

/** Forget all that was seen. */
export async function forget() {
  era += 1;
  await inTurn(async () => {
    const seen = (await caches.keys()).filter((name) => !name.startsWith("pixie-shell-"));
    await Promise.all(seen.map((name) => caches.delete(name)));
  });
}

/** Throw away what other versions kept. */
export async function forgetOthers() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => !name.endsWith(`-${version}`)).map((name) => caches.delete(name)));
}

async function trim(cache, entries, bytes) {
  const [requests, responses] = [await cache.keys(), await cache.matchAll()];
  const newestFirst = requests
    .map((request, n) => ({ request, at: keptAt(responses[n]), bytes: size(responses[n]) }))
    .sort((one, other) => other.at - one.at);
  let held = 0;
  for (const [n, each] of newestFirst.entries()) {
    held += each.bytes;
    if (n >= entries || held > bytes) await cache.delete(each.request, { ignoreVary: true });
  }
}

const size = (response) => Number(response.headers.get(BYTES));

function inTurn(work) {
  const done = turn.then(work);
  turn = done.catch(() => {});
  return done;
}
