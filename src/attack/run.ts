// Runs the catalogue on this machine, on the runtimes that it has, and tells each row as it ends; what `corral doctor --attack` is.
// Invariant: every row of the catalogue and every planned one is in the report, whatever went wrong; what asked for is not known is refused.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { arch, release } from "node:os";
import { join } from "node:path";
import {
  ATTACK_CLASSES,
  type AttackMachine,
  type AttackReport,
  type AttackRequest,
  type AttackResult,
  type AttackRow,
} from "../api/attack.ts";
import { CorralError } from "../api/errors.ts";
import type { RuntimeName } from "../api/sandbox.ts";
import { type BedPlace, type OpenBed, openBed } from "./bed.ts";
import { CATALOGUE } from "./catalogue.ts";
import { controls, judge, skipped } from "./judge.ts";
import { PLANNED, plannedRow } from "./planned.ts";
import type { SecurityRow } from "./row.ts";

export const ATTACK_RUNTIMES: readonly RuntimeName[] = ["native", "bwrap"];

export interface AttackPlace extends BedPlace {
  readonly version: string;
}

/** Throws `request_invalid` for a runtime, class or id that there is none of. */
export async function attack(place: AttackPlace, request: AttackRequest): Promise<AttackReport> {
  const runtimes = chooseRuntimes(request);
  const wanted = (id: SecurityRow["id"]): boolean => wantedBy(request, id);
  const rows = CATALOGUE.filter(({ id }) => wanted(id));
  const later = PLANNED.filter(({ id }) => wanted(id));
  if (rows.length + later.length === 0)
    throw new CorralError(
      "request_invalid",
      `no row of the catalogue is of class ${request.class ?? "any"} and has the id ${request.id ?? "any"}`,
    );
  await using bed = await openBed(place);
  const machine = await describeMachine(place, bed);
  const [first] = runtimes.filter((name) => machine.runtimes[name]?.startsWith("ok"));
  const control = controls(bed, first ?? "native");
  const inside = rows.filter(({ onServer }) => onServer !== true);
  const turns: (readonly [SecurityRow, RuntimeName | undefined])[] = [
    ...runtimes.flatMap((runtime) => inside.map((row) => [row, runtime] as const)),
    ...rows.filter(({ onServer }) => onServer === true).map((row) => [row, undefined] as const),
  ];
  const done: AttackRow[] = [];
  const tell = async (row: AttackRow): Promise<void> => {
    done.push(row);
    await request.onRow?.(row, done.length, turns.length);
  };
  const court = { bed, control, weakenings: machine.weakenings };
  for (const [row, on] of turns) {
    const why = request.signal?.aborted === true ? "interrupted" : on && missing(machine, on);
    const runtime = on ?? first ?? "native";
    await tell(why === undefined ? await judge(row, runtime, court) : skipped(row, runtime, why));
  }
  const unbuilt = later.flatMap((one) => (one.onServer ? runtimes.slice(0, 1) : runtimes).map((runtime) => plannedRow(one, runtime)));
  return report(machine, [...done, ...unbuilt]);
}

export function report(machine: AttackMachine, rows: readonly AttackRow[]): AttackReport {
  const count = (result: AttackResult): number => rows.filter((row) => row.result === result).length;
  return {
    passed: count("held"),
    failed: count("breached"),
    skipped: count("skipped"),
    void: count("void"),
    open: count("open"),
    machine,
    rows,
  };
}

export async function describeMachine(place: AttackPlace, bed: OpenBed): Promise<AttackMachine> {
  const { runtimes, findings } = await bed.corral.doctor();
  const weak = Object.values(runtimes).flatMap((words) => words.split(", weaker: ")[1]?.split(", ") ?? []);
  return {
    corral: place.version,
    guest: createHash("sha256")
      .update(readFileSync(join(place.buildDir, "corral-guest")))
      .digest("hex"),
    date: new Date().toISOString(),
    kernel: release(),
    arch: arch(),
    distro: distro(),
    user: place.uid === 0 ? "root" : "rootless",
    features: Object.fromEntries(
      findings.filter(({ id }) => !id.startsWith("tools")).map(({ id, state, detail }) => [id, `${state}: ${detail}`]),
    ),
    runtimes,
    weakenings: [...new Set(weak)].sort(),
  };
}

function chooseRuntimes({ runtime, class: kind }: AttackRequest): readonly RuntimeName[] {
  if (kind !== undefined && !ATTACK_CLASSES.some((name) => name === kind))
    throw new CorralError("request_invalid", `${kind} is no class of attempts; there are ${ATTACK_CLASSES.join(", ")}`);
  if (runtime === undefined) return ATTACK_RUNTIMES;
  const found = ATTACK_RUNTIMES.filter((name) => name === runtime);
  if (found.length === 0)
    throw new CorralError("request_invalid", `${runtime} is no runtime of this version; there are ${ATTACK_RUNTIMES.join(", ")}`);
  return found;
}

function wantedBy({ class: kind, id: wanted }: AttackRequest, id: SecurityRow["id"]): boolean {
  return (kind === undefined || id.startsWith(`${kind}/`)) && (wanted === undefined || id === wanted);
}

function missing({ runtimes }: AttackMachine, runtime: RuntimeName): string | undefined {
  const words = runtimes[runtime] ?? "no: not looked for";
  return words.startsWith("ok") ? undefined : `${runtime} does not work here: ${words.replace(/^no: /, "")}`;
}

function distro(): string {
  try {
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "unknown";
  } catch {
    return "unknown"; // a system without it
  }
}
