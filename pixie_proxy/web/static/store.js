// What a browser keeps for the person who uses it, in IndexedDB: running jobs, queued actions, files that were shared to us.
// All of it, and what pages remember in other ways, is cleared at sign-out (see shell.js): the next person at this machine finds nothing.

const NAME = "pixie";
const VERSION = 2;
const STORES = ["jobs", "queue", "incoming", "owner"]; // each by its own `id`

let opened;
let isCleared = false; // somebody signs out: what the page still does must not begin anew what is gone

/** Whether somebody signs out here. */
export const isSigningOut = () => isCleared;

function open() {
  if (isCleared) return Promise.reject(new Error("signed out"));
  opened ??= openDatabase().then(claim).catch((error) => {
    opened = undefined; // another time it may be to be had
    throw error;
  });
  return opened;
}

function openDatabase() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      const there = request.result.objectStoreNames;
      for (const store of STORES) if (!there.contains(store)) request.result.createObjectStore(store, { keyPath: "id" });
    };
    request.onsuccess = () => {
      const database = request.result;
      const reopen = () => (opened = undefined);
      database.onclose = reopen; // a sign-out cleared it away
      database.onversionchange = () => { database.close(); reopen(); };
      resolve(database);
    };
    request.onerror = () => reject(request.error);
  });
}

/** Make all of it theirs who is signed in: what somebody else left, whose session just ran out, goes unread. */
async function claim(database) {
  const user = globalThis.document?.querySelector('meta[name="user"]')?.content;
  if (!user) return database; // the worker: it follows its pages
  const transaction = database.transaction(STORES, "readwrite");
  const owner = transaction.objectStore("owner");
  const known = owner.get("owner");
  known.onsuccess = () => {
    if (known.result && known.result.user !== user) {
      for (const store of STORES) transaction.objectStore(store).clear();
      clearChoices();
    }
    owner.put({ id: "owner", user });
  };
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(database);
    transaction.onabort = () => reject(transaction.error);
  });
}

/** Forget what pages remember beside us: what somebody has chosen and measured, where they came from. */
function clearChoices() {
  localStorage.clear();
  sessionStorage.clear();
}

async function run(store, mode, work, opening = open()) {
  const transaction = (await opening).transaction(store, mode);
  const request = work(transaction.objectStore(store));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

/** Keep a value, which has an `id`; one of the same id is replaced. Blobs may be part of it. */
export const put = (store, value) => run(store, "readwrite", (each) => each.put(value));

/** Give the value of an id, or undefined. */
export const get = (store, id) => run(store, "readonly", (each) => each.get(id));

/** Give all values, by id. */
export const all = (store) => run(store, "readonly", (each) => each.getAll());

/** Forget the value of an id. */
export const remove = (store, id) => run(store, "readwrite", (each) => each.delete(id));

/** Forget everything, and take nothing more. */
export async function clear() {
  const opening = open();
  isCleared = true;
  clearChoices();
  for (const store of STORES) await run(store, "readwrite", (each) => each.clear(), opening);
}

/** Take things again: they could not sign out. */
export function reopen() {
  isCleared = false;
}
