// The program of the proxy's process. Invariant: it sees the network of the machine, and no other.

import { realOutside } from "./outside.ts";
import { runWorker } from "./worker.ts";

await runWorker(realOutside);
