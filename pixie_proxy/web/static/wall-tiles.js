// What the wall's modules know of its tiles. They stand in #found, whose content is replaced while one searches.

import { $, $$ } from "./dom.js";

/** Where they stand. */
export const found = $("#found");

/** All tiles that are shown, in order. */
export const tiles = () => $$(".tile", found);

/** The tile of an image, or of an element in it. */
export const tileOf = (what) => (typeof what === "string" ? $(`.tile[data-id="${what}"]`, found) : what.closest?.(".tile") ?? null);

/** What of a tile takes the focus: the link to its image; in the trash, the button that takes it out. */
export const handleOf = (tile) => $(".restore", tile) ?? $("a", tile);

/** Tell that other tiles are shown than before. */
export const tellChange = () => found.dispatchEvent(new CustomEvent("tiles"));
