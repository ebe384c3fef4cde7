// `./corral bench`: runs benches, prints the table or JSON, keeps raw samples under bench/results/, draws the report.
// Invariant: exit 1 when a bench could not measure; a target that is missed is printed as missed and is not an error.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Corral, PoolPlan } from "../src/api/corral.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { machine } from "./machine.ts";
import { profiled } from "./profile.ts";
import { progressLine, printTable } from "./print.ts";

/** Every bench by id; loaded when it is run, so that asking for one costs one. */
const BENCHES: Readonly<Record<string, () => Promise<{ bench: Bench }>>> = {
  "create-cold": () => import("./create-cold.ts"),
  "create-warm": () => import("./create-warm.ts"),
  fork: () => import("./fork.ts"),
  "snapshot-restore": () => import("./snapshot-restore.ts"),
  "delta-depth": () => import("./delta-depth.ts"),
  destroy: () => import("./destroy.ts"),
  exec: () => import("./exec.ts"),
  "exec-throughput": () => import("./exec-throughput.ts"),
  density: () => import("./density.ts"),
  stream: () => import("./stream.ts"),
  "create-http": async () => ({ bench: (await import("./http.ts")).createBench }),
  "exec-http": async () => ({ bench: (await import("./http.ts")).execBench }),
  "stream-http": async () => ({ bench: (await import("./http.ts")).streamBench }),
  "burst-100": async () => ({ bench: (await import("./http.ts")).burstBench }),
  "file-read-1k": async () => ({ bench: (await import("./file-read.ts")).smallBench }),
  "file-read-1m": async () => ({ bench: (await import("./file-read.ts")).largeBench }),
  "file-write": () => import("./file-write.ts"),
  "loom-e2e": () => import("./loom-e2e.ts"),
  "policy-verdict": () => import("./policy-verdict.ts"),
  "view-compile": () => import("./view-compile.ts"),
  "fs-micro": () => import("./fs-micro.ts"),
  "fs-program": () => import("./fs-program.ts"),
  "density-http": async () => ({ bench: (await import("./http.ts")).densityBench }),
  "python-call": () => import("./python-call.ts"),
  "python-context": () => import("./python-context.ts"),
  "egress-relay": () => import("./egress-relay.ts"),
  egress: () => import("./egress.ts"),
  "mcp-call": () => import("./mcp-call.ts"),
  soak: () => import("./soak.ts"),
  "context-soak": () => import("./context-soak.ts"),
};

/** Half an hour or more: only when named, in its quick form too. */
const ONLY_NAMED: readonly string[] = ["soak", "context-soak"];

export interface BenchOptions {
  readonly ids: readonly string[];
  readonly json: boolean;
  readonly quick: boolean;
  readonly profile: boolean;
  readonly report: boolean;
  readonly open: (dataDir: string, pool?: PoolPlan) => Promise<Corral>;
  readonly corralArgv: readonly string[];
}

const RESULTS = join(import.meta.dirname, "results");

/** Returns the process's exit code. */
export async function runBenches(options: BenchOptions): Promise<number> {
  const unknown = options.ids.filter((id) => !(id in BENCHES));
  if (unknown.length > 0) {
    process.stderr.write(
      `corral: request_invalid: no bench is called ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}\n`,
    );
    return 2;
  }
  if (options.report && options.ids.length === 0) {
    process.stdout.write(`${await report()}\n`);
    return 0;
  }
  const ids = options.ids.length > 0 ? options.ids : Object.keys(BENCHES).filter((id) => !ONLY_NAMED.includes(id));
  const facts = machine();
  if (!options.json)
    process.stdout.write(
      `${Object.entries(facts)
        .map(([key, value]) => `${key} ${value}`)
        .join(" · ")}\n\n`,
    );
  mkdirSync(RESULTS, { recursive: true });
  let failed = 0;
  for (const id of ids) failed += (await runOne(id, options)) ? 0 : 1;
  if (options.report) process.stdout.write(`${await report()}\n`);
  return failed === 0 ? 0 : 1;
}

/** vega is large and only a report needs it. */
async function report(): Promise<string> {
  const { writeReport } = await import("./report.ts");
  return writeReport(RESULTS);
}

async function runOne(id: string, options: BenchOptions): Promise<boolean> {
  const load = BENCHES[id];
  if (load === undefined) return false;
  const scratch = mkdtempSync(join(tmpdir(), "corral-bench-"));
  const opened: Corral[] = [];
  const line = progressLine(options.json ? undefined : process.stderr);
  const context: BenchContext = {
    quick: options.quick,
    scratch,
    corralArgv: options.corralArgv,
    open: async (pool) => {
      const corral = await options.open(join(scratch, "data"), pool);
      opened.push(corral);
      return corral;
    },
    progress: (step, done, total) => line.show(id, step, done, total),
  };
  const rows: Row[] = [];
  try {
    const { bench } = await load();
    const collect = async (): Promise<void> => {
      for await (const row of bench.run(context)) {
        line.clear();
        rows.push(row);
        if (options.json) process.stdout.write(`${JSON.stringify(withoutSamples(row))}\n`);
        else printTable([row], process.stdout, rows.length === 1 ? bench.what : undefined);
      }
    };
    if (options.profile) await profiled(join(RESULTS, id), collect);
    else await collect();
    writeFileSync(
      join(RESULTS, `${id}.json`),
      JSON.stringify({ machine: machine(), quick: options.quick, what: bench.what, rows }, null, 1),
    );
    return true;
  } catch (error) {
    line.clear();
    process.stderr.write(`corral: bench ${id} could not measure: ${error instanceof Error ? error.message : String(error)}\n`);
    return false;
  } finally {
    for (const corral of opened) await corral[Symbol.asyncDispose]();
    rmSync(scratch, { recursive: true, force: true });
  }
}

function withoutSamples(row: Row): Omit<Row, "samples" | "againstSamples"> {
  const { samples: _samples, againstSamples: _against, ...rest } = row;
  return rest;
}
