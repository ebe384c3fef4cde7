// What a client of Corral may count on, of the client in this process. Every row is met in each place and on each runtime; not each place
// with each runtime, because neither sees the other: the two files of the suite take a pair each.

import { clientRows } from "./client/rows.ts";

clientRows("local", "bwrap");
