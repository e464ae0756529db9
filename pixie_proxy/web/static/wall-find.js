// Search while one types, filters as they are set: the same addresses as the form's own, without leaving the page.

import { $, debounced, fetchPage } from "./dom.js";
import { tellError } from "./say.js";
import { t } from "./texts.js";
import { startOver } from "./wall-more.js";
import { found, tellChange, tiles } from "./wall-tiles.js";

const TYPING_MS = 200;

const form = $("#filters");
const more = form && $("details", form);
let asking = null;

/** Take the form and the chips over. */
export function readFilters() {
  const typed = debounced(() => show(asked()), TYPING_MS);
  form.addEventListener("input", (event) => event.target.matches('[type="search"], [name="tag"]') && typed());
  form.addEventListener("change", (event) => !event.target.matches('[type="search"]') && show(asked()));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    more.open = false;
    show(asked());
    if (matchMedia("(hover: none)").matches) document.activeElement.blur(); // the keyboard of a phone hides what was found
  });
  addEventListener("click", (event) => {
    const chip = event.target.closest?.(".chip, .sheet a, .none a");
    if (chip && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
      event.preventDefault();
      show(chip.pathname + chip.search, true);
    } else if (more.open && !more.contains(event.target)) more.open = false;
  });
  more.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !more.open) return;
    more.open = false;
    $("summary", more).focus();
  });
}

function asked() {
  const said = new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim()));
  return said.size ? `/?${said}` : "/";
}

/** Show what an address would, and make it the address of this page. An older question is dropped. */
export async function show(address, setsAll = false) {
  asking?.abort();
  const mine = (asking = new AbortController());
  found.setAttribute("aria-busy", "true");
  try {
    const page = await fetchPage(address, { signal: mine.signal });
    if (asking !== mine) return;
    history.replaceState({}, "", address);
    const hadFocus = found.contains(document.activeElement);
    found.replaceChildren(...$("#found", page).childNodes);
    const views = $(".views", page);
    if (views) $(".views").replaceWith(views);
    follow($("#filters", page), setsAll);
    if (hadFocus) $('[type="search"]', form).focus();
    scrollTo({ top: 0, behavior: "instant" });
    tellCount();
    startOver();
    tellChange();
  } catch (error) {
    tellError(error);
  } finally {
    if (asking === mine) found.removeAttribute("aria-busy");
  }
}

/** Write into the fields what the address says, but not into one that somebody types in. */
function follow(other, setsAll) {
  for (const field of form.elements) {
    const said = field.name && other?.elements[field.name];
    if (!field.name || (field === document.activeElement && !setsAll)) continue;
    if (field.type === "checkbox") field.checked = said?.checked ?? false;
    else field.value = said?.value ?? "";
  }
}

function tellCount() {
  const n = tiles().length;
  const hasMore = $('.pages a[rel="next"]', found);
  $("#told").textContent = n === 0 ? t("wall.found_none") : hasMore ? t("wall.found_more", { n }) : t("wall.found", { n });
}
