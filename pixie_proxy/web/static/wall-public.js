// The public wall: endless, and its animations play.

import { goOn, restore } from "./wall-more.js";
import { play } from "./wall-play.js";

play();
await restore();
goOn();
