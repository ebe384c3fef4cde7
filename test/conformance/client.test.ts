// What a client of Corral may count on: the same rows for the local client and the SDK, on each runtime. A file of rows a noun.

import { describe } from "vitest";
import { codebaseRows } from "./client/codebases.ts";
import { contextRows } from "./client/contexts.ts";
import { deltaRows } from "./client/deltas.ts";
import { eventRows } from "./client/events.ts";
import { fileTreeRows } from "./client/file-trees.ts";
import { fileRows } from "./client/files.ts";
import { clientLab } from "./client/lab.ts";
import { metricRows } from "./client/metrics.ts";
import { pauseRows } from "./client/pauses.ts";
import { networkRows } from "./client/networks.ts";
import { policyRows } from "./client/policies.ts";
import { portRows } from "./client/ports.ts";
import { processRows } from "./client/processes.ts";
import { templateRows } from "./client/templates.ts";
import { sandboxRows } from "./client/sandboxes.ts";
import { secretRows } from "./client/secrets.ts";
import { shellRows } from "./client/shells.ts";
import { snapshotRows } from "./client/snapshots.ts";

describe.each(["local", "remote"] as const)("the %s client", (place) => {
  describe.each(["native", "bwrap"] as const)("on %s", (runtime) => {
    const lab = clientLab(place, runtime);
    sandboxRows(lab);
    fileRows(lab);
    fileTreeRows(lab);
    deltaRows(lab);
    processRows(lab);
    shellRows(lab);
    contextRows(lab);
    pauseRows(lab);
    metricRows(lab);
    snapshotRows(lab);
    secretRows(lab);
    networkRows(lab);
    codebaseRows(lab);
    templateRows(lab);
    eventRows(lab);
    policyRows(lab);
    portRows(lab);
  });
});
