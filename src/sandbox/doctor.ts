// What this machine can do, told to a person: what probe.ts found, which engines and tools sandboxes get, and what mends the rest.
// Invariant: what is said to work was tried a moment ago; nothing outside the data directory is changed.

import type { DoctorFinding, DoctorReport } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { probeMachine } from "../runtime/probe.ts";
import type { RuntimeProbe } from "../runtime/runtime.ts";
import type { DataDir } from "./data-dir.ts";
import { runtimeOptions, type WorkshopOptions, type Workshops } from "./workshops.ts";

export interface DoctorRequest {
  readonly data: DataDir;
  readonly workshops: Workshops;
  readonly options: WorkshopOptions;
}

export async function examine({ data, workshops, options }: DoctorRequest): Promise<DoctorReport> {
  const runtime = runtimeOptions(options);
  const { kernel, findings, runtimes, limits } = await probeMachine({ native: runtime, bwrap: runtime, dataDir: data.root });
  const { engine, tools } = await tryEngine(data, workshops);
  return {
    kernel,
    findings: [...findings, ...tools],
    runtimes: Object.fromEntries(runtimes.map((probe) => [probe.name, runtimeWords(probe)])),
    engines: { kernel: engine, fuse: "not in this version" },
    limits,
  };
}

function runtimeWords(probe: RuntimeProbe): string {
  if (!probe.available) return `no: ${probe.reason}`;
  return probe.weakenings.length === 0 ? `ok, ${probe.mode}` : `ok, ${probe.mode}, weaker: ${probe.weakenings.join(", ")}`;
}

/** Opens what a sandbox would be made with, without making one. */
async function tryEngine(
  data: DataDir,
  workshops: Workshops,
): Promise<{ readonly engine: string; readonly tools: readonly DoctorFinding[] }> {
  try {
    const { shop } = await workshops.choose(undefined);
    const { toolDirs, skipped } = shop.template.plan({ codebaseDir: data.journal, memoryBytes: MEMORY_BYTES });
    const engine = shop.runtime.ids.trusted ? "ok, as root" : "ok, rootless";
    const shown = toolDirs.length === 0 ? "PATH needs nothing but the system's directories" : `shown read-only: ${toolDirs.join(", ")}`;
    return {
      engine,
      tools: [
        { id: "tools", state: "ok", detail: shown },
        ...skipped.map(
          ({ dir, why }): DoctorFinding => ({ id: "tools-skipped", state: "weak", detail: `${dir} of PATH is not shown: ${why}` }),
        ),
      ],
    };
  } catch (error) {
    if (!(error instanceof CorralError)) throw error;
    return { engine: `no: ${error.message}`, tools: [] };
  }
}

/** Any will do: the plan of a template that is not used. */
const MEMORY_BYTES = 1024 ** 3;
