// How long images take, and how far along one seems to be. What this browser has measured counts before our table.

import { parseSize } from "./sizes.js";

const MEASURED = "pixie-durations"; // of localStorage: {what is asked for: its last durations in seconds}
const KEPT = 5;
const USUAL_S = { low: 12, medium: 25, high: 50, xhigh: 70, max: 90 };
const ANY_QUALITY_S = 35;
const AT_TYPICAL = 0.8; // what the bar shows when the typical time is over
const MOST = 0.95; // the rest is for the answer

/** Give the seconds that what is asked for usually takes. */
export function typicalS(fields) {
  const measured = durations()[sort(fields)];
  if (measured?.length) return [...measured].sort((a, b) => a - b)[measured.length >> 1];
  const { width, height } = parseSize(fields.size) ?? { width: 1024, height: 1024 };
  return (USUAL_S[fields.quality] ?? ANY_QUALITY_S) * Math.min(2, Math.max(1, Math.sqrt(width * height) / 1024));
}

/** Note how long it took. */
export function remember(fields, duration_s) {
  const all = durations();
  all[sort(fields)] = [...(all[sort(fields)] ?? []), duration_s].slice(-KEPT);
  try {
    localStorage.setItem(MEASURED, JSON.stringify(all));
  } catch {
    // a browser that keeps nothing goes by the table
  }
}

/** Give how far along it seems, 0 to 0.95: it eases in time, and what has been seen (0 to 1) is never taken back. */
export function fraction(elapsed_s, typical_s, seen = 0) {
  const rate = -Math.log(1 - AT_TYPICAL / MOST);
  const eased = 1 - Math.exp((-rate * Math.max(0, elapsed_s)) / typical_s);
  return MOST * Math.max(eased, Math.min(1, seen));
}

function sort({ model, quality = "auto", size = "auto", output_format = "png" }) {
  return [model, quality, size, output_format === "gif" || output_format === "svg" ? output_format : ""].join(" ").trim();
}

function durations() {
  try {
    return JSON.parse(localStorage.getItem(MEASURED)) ?? {};
  } catch {
    return {};
  }
}
