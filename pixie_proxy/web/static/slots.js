// Locks that all tabs of this browser share. Where there are none (a page without https), each tab is on its own.

/** Run `work` while no other tab runs under this name. Throws AbortError if `signal`, where one is given, ends the wait. */
export function alone(name, signal, work) {
  return navigator.locks ? navigator.locks.request(name, { signal }, work) : work();
}

/** Tell whether somebody runs under this name. */
export async function isTaken(name) {
  const { held } = (await navigator.locks?.query()) ?? { held: [] };
  return held.some((lock) => lock.name === name);
}

// A browser opens six connections to a server that does not speak HTTP/2, and streams must leave some for the pages.
const STREAMS = 4;

/** Run `work` once one of the few streams that a browser can hold is free. Throws AbortError if `signal` ends the wait. */
export async function withStream(signal, work) {
  if (!navigator.locks) return work();
  signal.throwIfAborted();
  const waiting = new AbortController();
  const stop = () => waiting.abort();
  signal.addEventListener("abort", stop);
  let running;
  const take = () => {
    if (running) return undefined; // two were free at once
    running = work();
    stop();
    return running;
  };
  const names = Array.from({ length: STREAMS }, (_, number) => `pixie-stream-${number}`);
  await Promise.allSettled(names.map((name) => navigator.locks.request(name, { signal: waiting.signal }, take)));
  signal.removeEventListener("abort", stop);
  if (!running) signal.throwIfAborted();
  return running;
}
