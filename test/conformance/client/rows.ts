// Every row of the client suite, in one place and on one runtime. Invariant: a noun's rows stand here once, whatever the place.

import { describe } from "vitest";
import type { RuntimeName } from "../../../src/api/sandbox.ts";
import { codebaseRows } from "./codebases.ts";
import { contextRows } from "./contexts.ts";
import { deltaRows } from "./deltas.ts";
import { eventRows } from "./events.ts";
import { fileTreeRows } from "./file-trees.ts";
import { fileRows } from "./files.ts";
import { clientLab, type ClientPlace } from "./lab.ts";
import { metricRows } from "./metrics.ts";
import { pauseRows } from "./pauses.ts";
import { networkRows } from "./networks.ts";
import { policyRows } from "./policies.ts";
import { portRows } from "./ports.ts";
import { processRows } from "./processes.ts";
import { templateRows } from "./templates.ts";
import { sandboxRows } from "./sandboxes.ts";
import { secretRows } from "./secrets.ts";
import { shellRows } from "./shells.ts";
import { snapshotRows } from "./snapshots.ts";

/** Declares the suite; call it at the top of a test file. */
export function clientRows(place: ClientPlace, runtime: RuntimeName): void {
  describe(`the ${place} client on ${runtime}`, () => {
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
}
