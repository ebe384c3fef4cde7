// `corral run DIR -- CMD`: makes a sandbox over DIR, runs the command in it, says what it changed and lets that be accepted or not.
// Composes; the streams are run-attach.ts's, the end is run-end.ts's. Invariant: the exit code is the program's own unless
// Corral failed (125) or was interrupted; stdout carries the program's bytes and, with --json, one object on its last line.

import type { Corral } from "../../api/corral.ts";
import type { ExecResult, Sandbox } from "../../api/sandbox.ts";
import { EXIT_CORRAL, EXIT_SIGNAL } from "../exit-codes.ts";
import type { CliHost } from "../host.ts";
import { type Interruption, interruption } from "../interrupt.ts";
import { type Attached, runAttached } from "../run-attach.ts";
import { Attempts } from "../run-attempts.ts";
import { endRun, type RunEnd, tellKept } from "../run-end.ts";
import type { RunOptions } from "../run-options.ts";
import { tell, tellError } from "../tell.ts";
import { tellReaped } from "../reaped.ts";

const SIGINT = 2;
const NO_NETWORK = "this run had no network; --net npm,pypi or --allow HOST gives it one (corral run --help)";

export async function run(options: RunOptions, host: CliHost): Promise<number> {
  using stop = interruption();
  const refused = new Attempts();
  await using corral = await host.open({
    ...(options.dataDir === undefined ? {} : { dataDir: options.dataDir }),
    ...(options.network === "none" ? {} : { onVerdict: (verdict) => refused.add(verdict) }),
  });
  tellReaped(corral);
  const startedMs = performance.now();
  const sandbox = await create(corral, options);
  const createMs = performance.now() - startedMs;
  let attached: Attached | undefined;
  try {
    if (stop.signal === undefined) attached = await runAttached(sandbox, options, stop);
  } finally {
    // Before anything is judged: nothing of the run may still write to the delta.
    await sandbox.destroy();
  }
  for (const line of refused.lines()) tell(line);
  if (options.network === "none" && attached?.result?.exitCode !== 0 && attached?.lastWords.lackNetwork === true) tell(NO_NETWORK);
  const info = sandbox.info();
  const end = await endRun({ corral, info, result: attached?.result, ending: options.ending, json: options.json, stop }).catch(
    (error: unknown) => {
      tellKept(info.id, "what the command wrote is still there");
      throw error;
    },
  );
  const timings = { createMs, ...(attached?.result === undefined ? {} : { execMs: attached.result.durationMs }), ...info.timings };
  const object = options.json && attached?.result !== undefined ? jsonObject(attached.result, end, timings, sandbox) : undefined;
  await attached?.finish(object);
  if (attached?.outputError !== undefined) {
    tellError(attached.outputError);
    return EXIT_CORRAL;
  }
  return exitCode(attached?.result, end, stop);
}

async function create(corral: Corral, options: RunOptions): Promise<Sandbox> {
  const policy = await corral.policies.load(options.policy, options.additions);
  const sandbox = await corral.create({
    codebaseDir: options.dir,
    policy,
    engine: options.engine,
    // Kept until the end is decided, so that no crash of ours loses what the command wrote.
    delta: "keep",
    ...(options.network === "none" ? {} : { network: options.network }),
    ...(options.runtime === undefined ? {} : { runtime: options.runtime }),
    ...(options.memoryBytes === undefined ? {} : { limits: { memoryBytes: options.memoryBytes } }),
  });
  const { weakenings } = sandbox.info();
  if (weakenings.length > 0) tell(`weaker here: ${weakenings.join(", ")} (corral doctor says more)`);
  return sandbox;
}

/** The object that --json promises; its fields are part of SPEC.md. */
function jsonObject(result: ExecResult, end: RunEnd, timings: Readonly<Record<string, number>>, sandbox: Sandbox): string {
  const { runtime, engine } = sandbox.info();
  return JSON.stringify({
    exitCode: result.exitCode,
    signal: result.signal,
    timedOut: result.timedOut,
    limitHit: result.limitHit,
    durationMs: rounded(result.durationMs),
    timings: Object.fromEntries(Object.entries(timings).map(([stage, ms]) => [stage, rounded(ms)])),
    engine,
    runtime,
    changes: end.changes.map(({ path, kind, type }) => ({ path, kind, type })),
    committed: end.committed,
    refused: end.refused.map(({ path, reason }) => ({ path, reason })),
  });
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

function exitCode(result: ExecResult | undefined, end: RunEnd, stop: Interruption): number {
  if (stop.signal !== undefined) return EXIT_SIGNAL + stop.signal;
  if (end.left) return EXIT_SIGNAL + SIGINT;
  if (end.failed || result === undefined) return EXIT_CORRAL;
  return result.exitCode;
}
