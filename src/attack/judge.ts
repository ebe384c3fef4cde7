// From what an attempt and its control did to the result of a row. Invariant: `held` needs both halves and the control, in this run; whatever
// else happens is `breached`, unless no sandbox was there to attack or the row is known to be open.

import type { AttackResult, AttackRow } from "../api/attack.ts";
import { CorralError } from "../api/errors.ts";
import type { RuntimeName } from "../api/sandbox.ts";
import type { OpenBed } from "./bed.ts";
import { demandControl, demandHeld } from "./catalogue.ts";
import type { SecurityRow } from "./row.ts";

/** Why a control failed; `undefined` when it succeeded. */
export type Control = (row: SecurityRow) => Promise<string | undefined>;

const TOLD_LENGTH = 300;
/** Of an attempt, and of a control. */
const LONGEST_MS = 120_000;

/** Each control is proved once, on `runtime`, and remembered: it tells of the attempt, not of a runtime. */
export function controls(bed: OpenBed, runtime: RuntimeName): Control {
  const known = new Map<string, Promise<string | undefined>>();
  return (row) => {
    const asked = known.get(row.id) ?? inTime(demandControl(row, bed.forRow(`control-${row.id}`, runtime))).then(() => undefined, told);
    known.set(row.id, asked);
    return asked;
  };
}

export interface Court {
  readonly bed: OpenBed;
  readonly control: Control;
  /** Walls that are missing here, by name. */
  readonly weakenings: readonly string[];
}

export async function judge(row: SecurityRow, runtime: RuntimeName, { bed, control, weakenings }: Court): Promise<AttackRow> {
  const startMs = performance.now();
  const facts = rowFacts(row, runtime);
  if (row.runtimes !== undefined && !row.runtimes.includes(runtime)) return skipped(row, runtime, `does not apply to ${runtime}`);
  const before = bed.flags();
  const tried = await inTime(demandHeld(row, bed.forRow(row.id, runtime))).then(
    (met) => ({ met }),
    (error: unknown) => ({ error }),
  );
  const outside = bed.flags() === before ? ("intact" as const) : ("changed" as const);
  const failure = await control(row);
  const { result, reason } = verdict(row, { error: "error" in tried ? tried.error : undefined, outside, failure, weakenings });
  return {
    ...facts,
    result,
    ...("met" in tried && tried.met !== undefined ? { met: tried.met } : {}),
    outside,
    control: { kind: row.control.kind, result: failure === undefined ? "succeeded" : "failed" },
    ...(reason === undefined ? {} : { reason }),
    ms: Math.round(performance.now() - startMs),
  };
}

interface Seen {
  readonly error: unknown;
  readonly outside: "intact" | "changed";
  /** Of the control. */
  readonly failure: string | undefined;
  readonly weakenings: readonly string[];
}

export function verdict(
  row: Pick<SecurityRow, "open" | "openedBy">,
  { error, outside, failure, weakenings }: Seen,
): { result: AttackResult; reason?: string } {
  if (outside === "changed") return { result: "breached", reason: "a flag outside the sandbox changed" };
  if (error instanceof CorralError) return { result: "void", reason: `no attempt could be made: ${told(error)}` };
  const weaker = row.openedBy?.find((name) => weakenings.includes(name));
  if (error !== undefined && row.open === undefined && weaker === undefined) return { result: "breached", reason: told(error) };
  if (failure !== undefined) return { result: "void", reason: `the control did not succeed: ${failure}` };
  if (error !== undefined && weaker !== undefined) return { result: "open", reason: `this machine is weaker, and says so: ${weaker}` };
  if (row.open === undefined) return { result: "held" };
  if (error === undefined) return { result: "breached", reason: `listed as open (${row.open}), and closed here: the list is wrong` };
  return { result: "open", reason: `not promised: ${row.open}` };
}

export function skipped(row: SecurityRow, runtime: RuntimeName, reason: string): AttackRow {
  return { ...rowFacts(row, runtime), result: "skipped", control: { kind: row.control.kind, result: "not run" }, reason, ms: 0 };
}

function rowFacts(row: SecurityRow, runtime: RuntimeName): Pick<AttackRow, "id" | "class" | "runtime" | "engine" | "door" | "user"> {
  const kind = row.id.slice(0, row.id.indexOf("/")) as AttackRow["class"];
  const door = row.onServer === true ? "-" : (row.door ?? "exec");
  return { id: row.id, class: kind, runtime: row.onServer === true ? "server" : runtime, engine: "kernel", door, user: "user" };
}

/** Throws when it takes too long: whoever waits for ever has not been refused. */
async function inTime<T>(act: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no end after ${LONGEST_MS / 1_000} s`)), LONGEST_MS);
  try {
    return await Promise.race([act, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** What was thrown, on one line. */
function told(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s+/g, " ").trim().slice(0, TOLD_LENGTH);
}
