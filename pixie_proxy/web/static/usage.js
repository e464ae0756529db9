// Charts that can be walked through: by the pointer, and by keyboard as a slider over the bars, which screen readers know.

import { $, $$, make } from "./dom.js";
import { t } from "./texts.js";

/** Let a chart tell its bars. Its figures stand in the page; nothing is fetched. */
function walkable(chart) {
  const plot = $(".plot", chart);
  const slots = $$(".slot", plot);
  if (!slots.length) return;
  const tip = make("div", { class: "tip", "aria-hidden": "true", hidden: true });
  let at = slots.length - 1;

  for (const slot of slots) $("title", slot).remove(); // the browser's own tip would lie on ours
  chart.append(tip);

  function show(index) {
    slots[at].classList.remove("here");
    at = Math.min(slots.length - 1, Math.max(0, index));
    const { says, middle, y } = slots[at].dataset;
    slots[at].classList.add("here");
    chart.setAttribute("aria-valuenow", at);
    chart.setAttribute("aria-valuetext", says);
    tip.textContent = says;
    tip.hidden = false;
    // In the middle of its bar, but never out of the chart.
    const wide = chart.clientWidth;
    const x = plot.getBoundingClientRect().left - chart.getBoundingClientRect().left + (plot.clientWidth * middle) / 100;
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.max(half, Math.min(wide - half, x))}px`;
    tip.style.top = `${y}px`;
  }
  function hide() {
    tip.hidden = true;
    slots[at].classList.remove("here");
  }

  const about = { role: "slider", tabindex: 0, "aria-label": `${chart.dataset.title}. ${t("usage.chart_help")}` };
  const range = { "aria-valuemin": 0, "aria-valuemax": slots.length - 1, "aria-valuenow": at, "aria-valuetext": slots[at].dataset.says };
  for (const [name, value] of Object.entries({ ...about, ...range })) chart.setAttribute(name, value);

  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 7, PageDown: -7, Home: -Infinity, End: Infinity };
  chart.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(at + steps[event.key]);
  });
  chart.addEventListener("focus", () => chart.matches(":focus-visible") && show(at));
  chart.addEventListener("blur", hide);
  plot.addEventListener("pointermove", (event) => {
    const slot = event.target.closest(".slot");
    if (slot) show(slots.indexOf(slot));
  });
  plot.addEventListener("pointerdown", (event) => {
    const slot = event.target.closest(".slot");
    if (slot) show(slots.indexOf(slot));
  });
  plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
}

$$(".chart").forEach(walkable);

// Whose figures: the choice is enough.
const whose = $(".whose");
if (whose) {
  $("button", whose).hidden = true;
  $("select", whose).addEventListener("change", () => whose.requestSubmit());
}
