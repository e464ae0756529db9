// What a browser keeps for the person who uses it, in IndexedDB: running jobs, queued actions, files that were shared to us.
// Everything is cleared at sign-out (see shell.js): the next person at this machine finds nothing.

const NAME = "pixie";
const STORES = ["jobs", "queue", "incoming"]; // each by its own `id`

let opened;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      for (const store of STORES) request.result.createObjectStore(store, { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function run(store, mode, work) {
  const transaction = (await open()).transaction(store, mode);
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

/** Forget everything. */
export async function clear() {
  for (const store of STORES) await run(store, "readwrite", (each) => each.clear());
}
