// The create page: the form, its pictures and its price on one side, the jobs on the other.

import { call } from "./api.js";
import { Card } from "./cards.js";
import { $, $$ } from "./dom.js";
import { OrderForm } from "./form.js";
import { isOver, Jobs } from "./jobs.js";
import { isOffline } from "./network.js";
import { Price } from "./price.js";
import { References } from "./references.js";
import { say, tellError } from "./say.js";
import { all, remove } from "./store.js";
import { t } from "./texts.js";

const root = $("#create");
const { user, model, maxFiles, maxFileMb, thumbnailPx } = root.dataset;
const cards = new Map(); // of the jobs that are shown, by id

const price = new Price($("#price"), $("#budget"), () => order());
const jobs = new Jobs(user, show);
const { data: models } = await call("GET", "/v1/models").catch((error) => (tellError(error), { data: [] }));
const form = new OrderForm($("#order"), models, model, price.update);
const limits = { files: Number(maxFiles), megabytes: Number(maxFileMb) };
const references = new References($("#pictures"), limits, () => form.setReferences(references.count));

/** Give what the form asks for now: {kind, fields, files, fault}. */
function order() {
  const { fields, fault } = form.read();
  const files = references.files(form.takesMask);
  return { kind: files.length ? "edit" : "generation", fields, files, fault };
}

async function make(event) {
  event?.preventDefault();
  if (isOffline()) return undefined; // the line at the top says so; it is asked for when somebody wants it then
  const { fault, ...asked } = order();
  for (const field of $$("[aria-invalid]", form.form)) field.removeAttribute("aria-invalid");
  $("#order-fault").textContent = fault?.text ?? "";
  if (!fault) return start(asked);
  fault.element.setAttribute("aria-invalid", "true");
  return fault.element.focus();
}

async function start(asked) {
  const job = await jobs.start(asked);
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const block = matchMedia("(max-width: 60rem)").matches ? "start" : "nearest";
  cards.get(job.id)?.element.scrollIntoView({ block, behavior: isStill ? "auto" : "smooth" });
}

const acts = {
  retry: async (job) => {
    if (isOffline()) return undefined;
    if (job.kind === "edit" && !job.files.length) {
      await acts.edit(job);
      return say(t("create.pictures_gone"));
    }
    if (job.state === "failed") await acts.forget(job);
    return start({ kind: job.kind, fields: job.fields, files: job.files });
  },
  edit: async (job) => {
    form.fill(job.fields);
    await references.replace(job.files);
    form.fields.prompt.focus();
  },
  leave: (job) => jobs.leave(job),
  watch: (job) => jobs.watch(job),
  forget: async (job) => {
    const after = cards.get(job.id)?.element.nextElementSibling ?? form.fields.prompt;
    cards.get(job.id)?.stop();
    cards.delete(job.id);
    $("#no-jobs").hidden = cards.size > 0;
    await jobs.forget(job);
    after.focus();
  },
  refer: (id) => refer(id),
};

async function refer(id) {
  try {
    await references.addImages([id]);
    say(t("create.referred"));
  } catch (error) {
    tellError(error);
  }
}

/** Show what has become of a job: its state, or a picture as it appears. */
function show(job, { picture, image, tile, isNotKept }) {
  let card = cards.get(job.id);
  if (!card) {
    card = new Card(job, acts, thumbnailPx);
    cards.set(job.id, card);
    $("#jobs").prepend(card.element);
    $("#no-jobs").hidden = true;
  }
  if (isNotKept) say(t("create.not_kept"), { isError: true });
  if (tile !== undefined) return card.showPicture(picture, tile, image !== undefined);
  const before = card.element.dataset.state;
  card.show(job);
  if (!before || before === job.state) return undefined;
  $("#told").textContent = card.said();
  return isOver(job) && price.refresh();
}

/** Take what the address brings along: an image to start from, one to vary, a prompt, files that were shared to us. */
async function takeFromAddress() {
  const query = new URLSearchParams(location.search);
  if (query.has("prompt")) form.setPrompt(query.get("prompt"));
  if (query.has("vary")) {
    const { prompt, model: made, size, quality, background, format } = await call("GET", `/v1/images/${query.get("vary")}`);
    form.fill({ prompt, model: made, size, quality: quality ?? "auto", background: background ?? "auto", output_format: format });
  }
  if (query.has("from")) await references.addImages([query.get("from")]);
  if (query.has("incoming")) {
    const shared = await all("incoming");
    await references.add(shared.flatMap(({ files }) => files));
    if (shared.some(({ text }) => text)) form.setPrompt(shared.map(({ text }) => text).filter(Boolean).join("\n"));
    for (const { id } of shared) await remove("incoming", id);
    if (query.get("incoming") === "missed") say(t("create.missed"), { isError: true });
    history.replaceState(null, "", "/create");
  }
}

// What is asked for twice is paid twice, so a double click asks once, wherever its second half
// hits now, and so does a key that is held.
root.addEventListener("click", (event) => {
  if (event.detail < 2 || !event.target.closest(".make, .results")) return;
  event.preventDefault();
  event.stopPropagation();
}, { capture: true });
root.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.repeat && event.target.localName !== "textarea") event.preventDefault();
}, { capture: true });
$("#order").addEventListener("submit", make);
$("#order").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) make(event);
});
$(".more").addEventListener("toggle", ({ target }) => target.open && target.scrollIntoView({ block: "nearest" }));
for (const idea of $$("[data-idea]")) {
  idea.addEventListener("click", () => {
    form.setPrompt(idea.textContent);
    form.fields.prompt.focus();
  });
}
$("#controls").disabled = false;
price.refresh();
await jobs.resume().catch(console.error); // a browser that keeps nothing has nothing to take up
await takeFromAddress().catch(tellError);
