// The form: what a model can do is offered, nothing else, and what was chosen is remembered in this browser, but for the prompt.

import { $, $$, make } from "./dom.js";
import { parseSize, sizeFault } from "./sizes.js";
import { t } from "./texts.js";

const REMEMBERED = "pixie-create"; // of localStorage
const MOST_CHARACTERS = 32_000;
const UNKNOWN = { qualities: ["low", "medium", "high"], sizes: null, size_rules: null, output_formats: ["png", "jpeg", "webp"], input_fidelity: [] };
const NOT_REMEMBERED = new Set(["prompt", "n"]);
const PARTIAL_IMAGES = 2;
const SOON_DAYS = 60;

export class OrderForm {
  #models;
  #onchange;
  #references = 0;

  /** `models` as GET /v1/models gives them; `onchange()` is called whenever the order is another. */
  constructor(form, models, defaultModel, onchange) {
    this.form = form;
    this.fields = form.elements;
    this.#models = new Map(models.map((model) => [model.id, model]));
    this.#onchange = onchange;
    this.fields.model.replaceChildren(...models.map(({ id }) => make("option", { value: id }, id)));
    if (this.#models.has(defaultModel)) this.fields.model.value = defaultModel;
    this.#set(remembered());
    form.addEventListener("input", () => this.changed());
    for (const button of $$("[data-step]", form)) button.addEventListener("click", () => this.#step(Number(button.dataset.step)));
    this.changed();
  }

  get capabilities() {
    return this.#models.get(this.fields.model.value)?.capabilities ?? UNKNOWN;
  }

  /** Tell whether the chosen kind of image takes a mask. */
  get takesMask() {
    return this.fields.output_format.value !== "gif";
  }

  /** Say how many reference images there are: what is offered depends on it. */
  setReferences(count) {
    this.#references = count;
    this.changed();
  }

  /** Give the order as the API takes it: {fields, fault: {text, element} or null}. */
  read() {
    const values = Object.fromEntries(new FormData(this.form));
    const { output_format: format } = values;
    const fields = { model: values.model, prompt: values.prompt, n: format === "svg" ? 1 : Number(values.n) };
    const size = values.size === "free" ? `${values.width}x${values.height}` : values.size;
    const isLossy = format === "jpeg" || format === "webp";
    const chosen = {
      size: size !== "auto" && size,
      quality: values.quality !== "auto" && values.quality,
      background: values.background !== "auto" && values.background,
      output_format: format !== "png" && format,
      output_compression: isLossy && values.output_compression !== "100" && Number(values.output_compression),
      moderation: !this.#references && values.moderation !== "auto" && values.moderation,
      input_fidelity: this.#references > 0 && this.capabilities.input_fidelity.includes(values.input_fidelity) && values.input_fidelity,
      ...(format === "gif" && { frame_count: Number(values.frame_count), frame_duration_ms: Number(values.frame_duration_ms) }),
      ...(format === "svg" && values.svg_model.trim() && { svg: svgOf(values) }),
    };
    for (const [name, value] of Object.entries(chosen)) if (value !== false && value !== undefined) fields[name] = value;
    fields.response_format = "url"; // which tells the image's id beside its bytes
    if (format !== "gif" && format !== "svg") {
      fields.stream = true;
      if ("previews" in values) fields.partial_images = PARTIAL_IMAGES;
    }
    return { fields, fault: this.#fault(values) };
  }

  /** Write a prompt, and leave the rest. */
  setPrompt(text) {
    this.fields.prompt.value = text;
    this.changed();
  }

  /** Fill in a whole order. What its model can't do, or nobody has chosen, is as it is by itself. */
  fill({ prompt, svg, size, ...fields }) {
    this.fields.prompt.value = prompt ?? "";
    const set = { quality: "auto", background: "auto", output_format: "png", output_compression: 100, n: 1, ...fields };
    if (fields.stream) set.previews = "partial_images" in fields;
    if (svg) Object.assign(set, { svg_model: svg.model, svg_effort: svg.reasoning?.effort ?? "medium" });
    this.#set({ ...set, ...sizeFields(size, this.form) });
    this.changed();
  }

  /** Offer what fits now, and tell. */
  changed() {
    const { fields, capabilities } = this;
    const format = fields.output_format.value;
    offer(fields.output_format, capabilities.output_formats, "png");
    this.#offerQualities(["auto", ...capabilities.qualities]);
    this.#offerSizes(capabilities.sizes);
    const isTransparent = format === "png" || format === "webp";
    disable(fields.background, { transparent: !isTransparent });
    for (const [name, isShown] of Object.entries({
      compression: format === "jpeg" || format === "webp",
      fidelity: this.#references > 0 && capabilities.input_fidelity.length > 0,
      moderation: this.#references === 0,
      count: format !== "svg",
      previews: format !== "gif" && format !== "svg",
      gif: format === "gif",
      svg: format === "svg",
      free: fields.size.value === "free",
    })) {
      $(`[data-part="${name}"]`, this.form).hidden = !isShown;
    }
    disable(fields.input_fidelity, { low: !capabilities.input_fidelity.includes("low"), high: !capabilities.input_fidelity.includes("high") });
    $("#compression-shown").textContent = fields.output_compression.value;
    this.#warnOfShutdown();
    this.#showPrompt();
    const fault = this.#sizeFault(Object.fromEntries(new FormData(this.form)));
    $("#size-fault").textContent = fault ?? "";
    this.#remember();
    this.#onchange();
  }

  #fault(values) {
    const { prompt, width } = this.fields;
    if (!values.prompt.trim()) return { text: t("create.prompt_missing"), element: prompt };
    if (values.prompt.length > MOST_CHARACTERS) return { text: t("create.prompt_long", { most: MOST_CHARACTERS.toLocaleString() }), element: prompt };
    const size = this.#sizeFault(values);
    if (size) return { text: size, element: width };
    const wrong = $$("input:invalid", this.form)[0];
    return wrong ? { text: wrong.validationMessage, element: wrong } : null;
  }

  #sizeFault({ size, width, height }) {
    return size === "free" ? sizeFault(Number(width), Number(height), this.capabilities.size_rules) : null;
  }

  #offerQualities(names) {
    const box = $("#qualities", this.form);
    if ($$("input", box).map((input) => input.value).join() === names.join()) return;
    const before = this.fields.quality?.value;
    box.replaceChildren(
      ...names.map((name) => make("label", {}, make("input", { type: "radio", name: "quality", value: name }), make("span", {}, t(`create.quality_${name}`)))),
    );
    this.fields.quality.value = names.includes(before) ? before : names.includes("medium") ? "medium" : "auto";
  }

  #offerSizes(legal) {
    for (const input of $$('input[name="size"]', this.form)) {
      const isLegal = !legal || input.value === "auto" || legal.includes(input.value);
      input.closest("label").hidden = !isLegal;
      if (!isLegal && input.checked) this.fields.size.value = "auto";
    }
  }

  #warnOfShutdown() {
    const day = this.#models.get(this.fields.model.value)?.shutdown_date;
    const isSoon = day && new Date(day) - Date.now() < SOON_DAYS * 86_400_000;
    const warning = $("#shutdown");
    warning.hidden = !isSoon;
    if (isSoon) warning.textContent = t("create.shutdown", { day: new Date(day).toLocaleDateString(undefined, { dateStyle: "long", timeZone: "UTC" }) });
  }

  #showPrompt() {
    const { prompt } = this.fields;
    prompt.style.height = "auto";
    prompt.style.height = `${prompt.scrollHeight + 2}px`;
    const count = $("#prompt-count");
    count.textContent = t("create.characters", { count: prompt.value.length.toLocaleString(), most: MOST_CHARACTERS.toLocaleString() });
    count.classList.toggle("bad", prompt.value.length > MOST_CHARACTERS);
  }

  #step(by) {
    const { n } = this.fields;
    n.value = Math.min(10, Math.max(1, Number(n.value) + by));
    this.changed();
  }

  #set(values) {
    if (this.#models.has(values.model)) this.fields.model.value = values.model;
    offer(this.fields.output_format, this.capabilities.output_formats, "png");
    this.#offerQualities(["auto", ...this.capabilities.qualities]);
    for (const [name, value] of Object.entries(values)) {
      const field = this.fields[name];
      if (name === "model" || !field) continue;
      if (field.type === "checkbox") field.checked = Boolean(value);
      else if (isOffered(field, String(value))) field.value = value;
    }
  }

  #remember() {
    const values = Object.fromEntries([...new FormData(this.form)].filter(([name, value]) => typeof value === "string" && !NOT_REMEMBERED.has(name)));
    values.previews = this.fields.previews.checked;
    try {
      localStorage.setItem(REMEMBERED, JSON.stringify(values));
    } catch {
      // a browser that keeps nothing starts afresh
    }
  }
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(REMEMBERED)) ?? {};
  } catch {
    return {};
  }
}

function svgOf({ svg_model: model, svg_effort: effort }) {
  return { model: model.trim(), reasoning: { effort } };
}

/** Write a size as the form has it: one of its own by name, any other in two fields. */
function sizeFields(size, form) {
  const edges = parseSize(size);
  const isNamed = $$('input[name="size"]', form).some((input) => input.value === size);
  return !edges || isNamed ? { size: edges ? size : "auto" } : { size: "free", ...edges };
}

/** Leave in a list what is named; the one that was chosen goes to `otherwise` if it is gone. */
function offer(select, names, otherwise) {
  for (const option of select.options) option.hidden = option.disabled = !names.includes(option.value);
  if (!names.includes(select.value)) select.value = otherwise;
}

function disable(select, byValue) {
  for (const option of select.options) if (option.value in byValue) option.disabled = byValue[option.value];
  if (select.selectedOptions[0]?.disabled) select.value = "auto";
}

function isOffered(field, value) {
  if (field instanceof RadioNodeList) return [...field].some((input) => input.value === value);
  return !field.options || [...field.options].some((option) => option.value === value && !option.disabled);
}
