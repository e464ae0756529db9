// The wall: endless, searched while one types, walked by keyboard, with many images selected at once.

import { $ } from "./dom.js";
import { readActs } from "./wall-acts.js";
import { readFilters } from "./wall-find.js";
import { readKeys } from "./wall-keys.js";
import { goOn, restore } from "./wall-more.js";
import { readPicks } from "./wall-pick.js";
import { play } from "./wall-play.js";

play();
if ($("#filters")) readFilters();
readPicks();
readActs();
readKeys();
await restore();
goOn();
