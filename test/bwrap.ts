// Whether this machine lacks bubblewrap, which the tests of its runtime skip with. Not a probe: a bubblewrap that is there and is too
// old or does not run fails its tests. Invariant: only the missing package is a reason to skip.

import { findBwrap } from "../src/runtime/bwrap/runtime.ts";

const looked = await findBwrap().catch((error: Error) => error.message);

/** Why tests that need bubblewrap cannot run here; absent where they can. */
export const BWRAP_MISSING = typeof looked === "string" && looked.startsWith("bubblewrap is not installed") ? looked : undefined;
