// Jobs: what somebody asked for, kept in this browser before it is sent, and seen to its end though tabs close and
// networks break. Each has an Idempotency-Key of its own, so asking again joins the call and never buys it twice.

import { ApiError, call } from "./api.js";
import { remember } from "./progress.js";
import { ask } from "./sending.js";
import { alone, isTaken, withStream } from "./slots.js";
import { all, get, put, remove } from "./store.js";
import { t } from "./texts.js";

const KEY_LIFE_MS = 23 * 3600 * 1000; // the proxy knows a key for 24 hours; behind that, asking again would buy
const KEPT_DONE = 30;
const KEPT_FILE_BYTES = 10_000_000; // what a job that is over may hold of its reference images
const LONGEST_WAIT_S = 15;
const LEDGER_TRIES = 8;
const LEDGER_EVERY_MS = 400;

/**
 * Starts jobs and sees them through. `tell(job, news)` is called on every change of a job and with all that comes of it.
 *
 * A job: {id, user, created_ms, key, kind, fields, files: [{name, file}], state, request_id, images, cost_usd, error,
 * is_sent, sent_ms}. While `is_sent` is false the proxy has not taken it: it can be dropped, and costs nothing.
 * States: queued (waits for a free stream) · running · waiting (until `again_ms`, because of `error`) · elsewhere
 * (another tab sees to it) · left (nobody watches, it runs on) · done · failed.
 */
export class Jobs {
  #user;
  #tell;
  #stops = new Map(); // of the jobs that this tab sees to: what ends that

  constructor(user, tell) {
    this.#user = user;
    this.#tell = tell;
  }

  /** Keep a job and send it. It is kept first: from then on it can't be lost. */
  async start({ kind, fields, files }) {
    const job = {
      ...{ id: `${Date.now()}-${newId()}`, user: this.#user, created_ms: Date.now(), key: newId() },
      ...{ kind, fields, files, state: "queued", request_id: null, images: [], cost_usd: null, error: null },
      ...{ is_sent: false, sent_ms: null },
    };
    this.#tell(job, {});
    if (!(await kept(job))) this.#tell(job, { isNotKept: true });
    this.#see(job);
    return job;
  }

  /** Take up what this user has left in this browser: show what is over, ask again for what is not. */
  async resume() {
    const own = (await all("jobs")).filter((job) => job.user === this.#user);
    own.sort((a, b) => a.created_ms - b.created_ms);
    const over = own.filter(isOver);
    for (const job of over.slice(0, -KEPT_DONE)) await remove("jobs", job.id);
    const old = new Set(over.slice(0, -KEPT_DONE));
    for (const job of own.filter((each) => !old.has(each))) {
      this.#tell(job, {});
      if (!isOver(job) && job.state !== "left") this.#see(job);
    }
  }

  /** Stop watching: the call runs on at the proxy, which keeps and charges its images. */
  async leave(job) {
    await this.#change(job, { state: "left" });
    this.#stops.get(job.id)?.abort();
  }

  /** Watch a job again that was left. */
  watch(job) {
    this.#see(job);
  }

  /** Drop a job: one that is over, or one that the proxy has not taken yet. */
  async forget(job) {
    this.#stops.get(job.id)?.abort();
    await remove("jobs", job.id);
  }

  async #see(job) {
    const stop = new AbortController();
    this.#stops.set(job.id, stop);
    try {
      const lock = `pixie-job-${job.id}`;
      if (await isTaken(lock)) this.#tell({ ...job, state: "elsewhere" }, {});
      await alone(lock, stop.signal, async () => {
        const known = await get("jobs", job.id).catch(() => null); // another tab may have brought it to its end
        if (known) Object.assign(job, known);
        if (isOver(job)) this.#tell(job, {});
        else await this.#untilOver(job, stop.signal);
      });
    } catch (error) {
      if (error.name !== "AbortError") await this.#fail(job, error);
    } finally {
      this.#stops.delete(job.id);
    }
  }

  async #untilOver(job, signal) {
    for (let tries = 0; ; tries += 1) {
      try {
        await this.#change(job, { state: "queued", error: null });
        await withStream(signal, () => this.#once(job, signal));
        return;
      } catch (error) {
        if (error.name === "AbortError") throw error;
        const wait_s = secondsToWait(error, tries);
        if (wait_s === null) throw error;
        const is_sent = job.is_sent && error.status === 0; // a refusal says that there is no such call
        await this.#change(job, { state: "waiting", is_sent, error: written(error), again_ms: Date.now() + 1000 * wait_s });
        await pause(wait_s, signal, error.status === 0);
      }
    }
  }

  async #once(job, signal) {
    if (await this.#hasEnded(job, signal)) return;
    if (Date.now() - job.created_ms > KEY_LIFE_MS) throw new ApiError(0, { message: t("create.too_old"), code: "too_old" });
    await this.#change(job, { state: "running", is_sent: true, sent_ms: job.sent_ms ?? Date.now() });
    for await (const news of ask(job, signal)) {
      if (news.asked) await this.#change(job, { request_id: news.asked });
      else this.#tell(job, news);
      if (news.image) job.images[news.tile] = news.image;
    }
    const found = await this.#ledger(job, signal);
    if (found && (await this.#settle(job, found))) return;
    if (!job.images.length) throw new ApiError(502, { message: t("create.nothing_came"), code: "nothing_came" });
    await this.#change(job, { state: "done" });
  }

  /** Tell by the ledger whether a call that was taken is over: then nothing is asked again. */
  async #hasEnded(job, signal) {
    if (!job.request_id) return false;
    const found = await call("GET", `/v1/requests/${job.request_id}`, { signal });
    return this.#settle(job, found);
  }

  async #settle(job, found) {
    const { state, images, cost_usd, duration_s } = found;
    if (state === "admitted" || state === "sent") return false;
    const known = { images: images.length ? images : job.images, cost_usd, duration_s };
    if (state === "done") {
      remember(job.fields, duration_s);
      await this.#change(job, { state: "done", error: null, ...known });
    }
    if (state === "failed" || state === "unknown") {
      const code = state === "unknown" ? "upstream_outcome_unknown" : null;
      await this.#change(job, { state: "failed", error: job.error ?? { status: 0, message: found.error, code }, ...known });
    }
    return true;
  }

  /** Ask the ledger what became of a call, which knows it a moment after its answer's end; null if it can't be asked. */
  async #ledger(job, signal) {
    for (let tries = 0; tries < LEDGER_TRIES; tries += 1) {
      const found = await call("GET", `/v1/requests/${job.request_id}`, { signal }).catch(() => null);
      if (found && found.state !== "sent") return found;
      await pause(LEDGER_EVERY_MS / 1000, signal);
    }
    return null;
  }

  async #fail(job, error) {
    if (error.name !== "ApiError") console.error(error);
    await this.#change(job, { state: "failed", error: written(error) });
    const found = error.status === 200 && job.request_id ? await this.#ledger(job, new AbortController().signal) : null;
    if (found) await this.#settle(job, found); // what came whole before the fault is kept and charged
  }

  async #change(job, changes) {
    Object.assign(job, changes);
    if (isOver(job) && sizeOf(job.files) > KEPT_FILE_BYTES) job.files = [];
    await kept(job);
    this.#tell(job, {});
  }
}

/** Tell whether a job has come to its end. */
export const isOver = ({ state }) => state === "done" || state === "failed";

/** Say after how many seconds to ask again; null where that helps nobody. */
export function secondsToWait({ status, code, headers }, tries) {
  if (status === 0) return code === "too_old" ? null : Math.min(LONGEST_WAIT_S, 2 ** tries);
  const mayHelp = (status === 429 || status === 503) && headers?.get("x-should-retry") !== "false" && code !== "insufficient_quota";
  return mayHelp ? Number(headers.get("retry-after")) || LONGEST_WAIT_S : null;
}

/** Keep a job in this browser; tell whether that worked. */
async function kept(job) {
  try {
    await put("jobs", job);
    return true;
  } catch (error) {
    console.warn(error); // no room, or a window that keeps nothing: the job goes on as long as the tab is open
    return false;
  }
}

const written = ({ status = 0, message, code = null, param = null }) => ({ status, message, code, param });

const sizeOf = (files) => files.reduce((sum, { file }) => sum + file.size, 0);

/** Wait; with `endsOnline` no longer than until the network is there again. Throws AbortError. */
function pause(wait_s, signal, endsOnline = false) {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const timer = setTimeout(() => end(resolve), 1000 * wait_s);
    const end = (how, why) => {
      clearTimeout(timer);
      over.abort();
      how(why);
    };
    signal.addEventListener("abort", () => end(reject, signal.reason), over);
    if (endsOnline) window.addEventListener("online", () => end(resolve), over);
    if (signal.aborted) end(reject, signal.reason);
  });
}

/** Make 128 random bits; `crypto.randomUUID` is for https alone. */
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
