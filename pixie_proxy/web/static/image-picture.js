// The picture itself: first small, then as sharp as the screen wants it, moving if it moves, large on a click.

import { $ } from "./dom.js";
import { t } from "./texts.js";
import { openZoom } from "./image-zoom.js";

const picture = $("#picture");
const { content, mime, stillPx } = picture.dataset;
const still = picture.getAttribute("src");
const isMoving = mime === "image/gif";
const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Begin: whatever the browser has loaded already is taken as it is. */
export function startPicture() {
  picture.addEventListener("load", loaded);
  picture.addEventListener("error", broken);
  $("#broken button").addEventListener("click", again);
  $(".frame").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab of its own
    event.preventDefault();
    zoom();
  });
  const play = $("#play");
  play?.addEventListener("click", () => move(play.getAttribute("aria-pressed") !== "true"));
  if (isMoving && !isCalm) move(true);
  else if (picture.complete) (picture.naturalWidth ? loaded : broken)();
  new ResizeObserver(sharpen).observe(picture);
  warm($('[rel="prev"]'));
  warm($('[rel="next"]'));
}

/** Show the picture over the whole screen. */
export function zoom() {
  openZoom({
    src: picture.src,
    full: isMoving ? picture.src : content,
    alt: picture.alt,
    width: Number(picture.getAttribute("width")),
    height: Number(picture.getAttribute("height")),
  });
}

function loaded() {
  $("#figure").classList.add("loaded");
  $("#broken").hidden = true;
  sharpen();
}

/** Try the original where there is no small picture of it; then tell. */
function broken() {
  if (picture.getAttribute("src") === still && still !== content) picture.src = content;
  else $("#broken").hidden = false;
}

function again() {
  $("#broken").hidden = true;
  picture.src = still;
}

/** Put the original in the place of the small picture, once it is there, where that has too few pixels for the screen. */
async function sharpen() {
  const shownPx = picture.clientWidth * devicePixelRatio;
  const isEnough = isMoving || picture.getAttribute("src") !== still || shownPx <= stillPx * 1.1;
  if (isEnough || sharpen.begun || navigator.connection?.saveData || !picture.naturalWidth) return;
  sharpen.begun = true;
  const sharp = new Image();
  sharp.src = content;
  await sharp.decode().then(() => (picture.src = content), () => {});
}

/** Play or stop a moving picture: stopped it is its thumbnail, which stands still. */
function move(plays) {
  const play = $("#play");
  play.setAttribute("aria-pressed", plays);
  $("span", play).textContent = plays ? t("image.stop") : t("image.play");
  picture.src = plays ? content : still;
}

/** Have the small picture of the next page here before somebody turns to it. */
function warm(link) {
  if (!link || navigator.connection?.saveData) return;
  new Image().src = still.replace(/img_\w+/, link.pathname.split("/").pop());
}
