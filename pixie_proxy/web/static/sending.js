// Ask the proxy for what a job wants, once, and tell what comes of it as it comes.

import { ApiError, send } from "./api.js";
import { eventsOf } from "./events.js";
import { t } from "./texts.js";

const PATHS = { generation: "/v1/images/generations", edit: "/v1/images/edits" };
const LINK = /\/i\/(img_[0-9a-v]{26})-/;

/**
 * Yield what comes of a job: {asked: request id}, then {picture: a Blob, tile} as it appears, and {image: id or null,
 * picture, tile} once it is whole. Only when all have come can they be had from the gallery.
 *
 * The same job asked again joins its earlier call, by its key. Throws ApiError, with status 0 where the network broke.
 */
export async function* ask(job, signal) {
  const headers = { "Idempotency-Key": job.key };
  const body = job.kind === "edit" ? { form: formOf(job) } : { json: job.fields };
  const response = await send("POST", PATHS[job.kind], { ...body, headers, signal });
  yield { asked: response.headers.get("x-request-id") };
  const placing = new Placing();
  try {
    if (!response.headers.get("content-type").startsWith("text/event-stream")) {
      for (const item of (await response.json()).data) yield { image: idOf(item), tile: placing.completed() };
      return;
    }
    for await (const event of eventsOf(response.body)) {
      if (event.error) throw new ApiError(200, event.error, response.headers);
      if (event.type?.endsWith(".partial_image")) {
        yield { picture: pictureOf(event), tile: placing.partial(event.partial_image_index) };
      }
      if (event.type?.endsWith(".completed")) {
        yield { image: idOf(event), picture: pictureOf(event), tile: placing.completed() };
      }
    }
  } catch (error) {
    if (error.name === "ApiError" || error.name === "AbortError") throw error;
    throw new ApiError(0, { message: t("site.unreachable"), code: "unreachable" });
  }
}

/** Tells which of several images an event is about, which no event says: each image has each stage once, and ends once. */
export class Placing {
  #stages = []; // the stages that each image has had
  #done = 0;

  partial(stage) {
    let tile = this.#done;
    while (this.#stages[tile]?.has(stage)) tile += 1;
    (this.#stages[tile] ??= new Set()).add(stage);
    return tile;
  }

  completed() {
    this.#done += 1;
    return this.#done - 1;
  }
}

function formOf({ fields, files }) {
  const form = new FormData();
  for (const [name, value] of flat(fields)) form.append(name, String(value));
  for (const { name, file } of files) form.append(name, file, file.name);
  return form;
}

/** Spell objects as forms do: `svg[reasoning][effort]`. */
function* flat(fields, spell = (name) => name) {
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === "object") yield* flat(value, (inner) => `${spell(name)}[${inner}]`);
    else yield [spell(name), value];
  }
}

function idOf({ url }) {
  return LINK.exec(url ?? "")?.[1] ?? null;
}

function pictureOf({ b64_json, output_format = "png" }) {
  const bytes = Uint8Array.from(atob(b64_json), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: `image/${output_format}` });
}
