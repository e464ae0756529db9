// Make and find elements. Text is always text: nothing here reads HTML but `fetchPage`, which reads our own pages.

/** Make an element: attributes and properties by name, `on…` as listeners, `class`, `data-…`; children as text or nodes. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make an icon of the sprite; it says nothing to those who can't see it. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${new URL("./icons.svg", import.meta.url).pathname}#${name}`);
  svg.append(use);
  return svg;
}

/** The first element that a selector finds. */
export const $ = (selector, within = document) => within.querySelector(selector);

/** All elements that a selector finds. */
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

/** Call `work` once `wait_ms` have passed without another call. */
export function debounced(work, wait_ms) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait_ms);
  };
}

// The page policy wants TrustedHTML wherever text would become elements. This is the one place that makes some, and
// it takes nothing but what our own server wrote: see `fetchPage`.
const policy = window.trustedTypes?.createPolicy("pixie", { createHTML: (html) => html, createScriptURL: (url) => url });

/**
 * Fetch one of our own pages and give its document; scripts in it do not run. Throws if it is not to be had; whose
 * session has ended is led to sign in.
 */
export async function fetchPage(path, { signal } = {}) {
  const response = await fetch(new URL(path, location.origin), { signal, headers: { Accept: "text/html" } });
  if (new URL(response.url).pathname === "/login") {
    location.reload();
    throw new DOMException("signed out", "AbortError");
  }
  if (!response.ok || new URL(response.url).origin !== location.origin) throw new Error(`${response.status}`);
  const html = await response.text();
  return new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");
}

/** The address of our service worker, as browsers with Trusted Types want it. */
export function workerUrl(path) {
  return policy ? policy.createScriptURL(path) : path;
}
