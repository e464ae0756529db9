// Sizes of images, and the rules that a model has for them.

import { t } from "./texts.js";

/** Read `WIDTHxHEIGHT`; null for `auto` and what else is no size. */
export function parseSize(text) {
  const found = /^([1-9]\d{0,4})x([1-9]\d{0,4})$/.exec(text ?? "");
  return found && { width: Number(found[1]), height: Number(found[2]) };
}

/** Say which rule (`size_rules` of a model) a size breaks; null if it breaks none. */
export function sizeFault(width, height, rules) {
  const [short, long] = [Math.min(width, height), Math.max(width, height)];
  if (!(short >= 1)) return t("create.size_missing");
  if (!rules) return null;
  const step = rules.edge_multiple_of;
  if (width % step || height % step) return t("create.size_step", { step, width: near(width, step), height: near(height, step) });
  if (long > rules.max_edge) return t("create.size_edge", { most: rules.max_edge });
  if (long > rules.max_ratio * short) return t("create.size_ratio", { most: rules.max_ratio });
  if (width * height < rules.min_pixels) return t("create.size_small", { edge: squareOf(rules.min_pixels, step) });
  if (width * height > rules.max_pixels) return t("create.size_large", { edge: Math.floor(Math.sqrt(rules.max_pixels) / step) * step });
  return null;
}

const near = (edge, step) => Math.max(step, Math.round(edge / step) * step);
const squareOf = (pixels, step) => Math.ceil(Math.sqrt(pixels) / step) * step;
