// A snapshot of a running sandbox, and the way from it to a first command: a new sandbox made from it, and the same one given its files
// back. The delta is small: what a large one costs is fork.ts's.

import { join } from "node:path";
import type { Corral } from "../src/api/corral.ts";
import type { CreateRequest, Sandbox } from "../src/api/sandbox.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../src/api/ids.ts";
import { randomText } from "../src/base/random-text.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row, timed } from "./bench.ts";
import { request, smallProject, TRUE } from "./project.ts";

const ID = "snapshot-restore";

export function newSnapshotId(): string {
  return `${ID_PREFIX.snapshot}${randomText(ID_BODY_LENGTH)}`;
}

/** Everything in it may be changed. */
export function writable(dir: string): CreateRequest {
  return request(dir, { policy: { rules: [{ pattern: "**", permission: "write" }] } });
}

/** Of a command that must end well. */
export async function done(sandbox: Sandbox, command: readonly string[] | string): Promise<void> {
  const { exitCode, stderr } = await sandbox.exec({ command });
  if (exitCode !== 0) throw new Error(`the command ended with ${exitCode}: ${new TextDecoder().decode(stderr)}`);
}

async function* run(context: BenchContext): AsyncIterable<Row> {
  const corral = await context.open();
  const asked = writable(smallProject(join(context.scratch, "project")));
  let sandbox = await corral.create(asked);
  const first = newSnapshotId();
  await corral.snapshots.take(sandbox.id, first);
  const cold: number[] = [];
  const [taken, made, restored]: [number[], number[], number[]] = [[], [], []];
  const n = context.quick ? 30 : 200;
  for (let i = -5; i < n; i++) {
    context.progress("snapshot, new sandbox from it, restore; a cold create in turn", Math.max(0, i), n);
    await done(sandbox, `echo ${i} > file`);
    const id = newSnapshotId();
    const take = await timed(() => corral.snapshots.take(sandbox.id, id));
    const make = await timed(async () => await usedOnce(await corral.snapshots.create(id, {})));
    const fresh = await timed(async () => await usedOnce(await corral.create(asked)));
    const back = await timed(async () => {
      sandbox = await again(corral, sandbox, first);
      await done(sandbox, TRUE);
    });
    await corral.snapshots.remove(id);
    if (i < 0) continue;
    taken.push(take);
    made.push(make);
    cold.push(fresh);
    restored.push(back);
  }
  await sandbox.destroy();
  await corral.snapshots.remove(first);
  yield row({
    id: ID,
    metric: "snapshot of a running sandbox",
    unit: "ms",
    samples: taken,
    target: "p50 ≤ 5 ms",
    judge: ({ p50 }) => p50 <= 5,
  });
  yield row({
    id: ID,
    metric: "snapshot to the first command of a new sandbox",
    unit: "ms",
    samples: made,
    against: { name: "cold create to first command, and its end", samples: cold },
    target: "p50 ≤ 5 ms",
    judge: ({ p50 }) => p50 <= 5,
    note: "with the end of the sandbox",
  });
  yield row({ id: ID, metric: "restore in place to the first command", unit: "ms", samples: restored, target: "told" });
}

async function usedOnce(sandbox: Sandbox): Promise<void> {
  await done(sandbox, TRUE);
  await sandbox.destroy();
}

async function again(corral: Corral, sandbox: Sandbox, snapshotId: string): Promise<Sandbox> {
  await sandbox.pause(false);
  await corral.snapshots.restore(sandbox.id, snapshotId);
  return await corral.paused.resume(sandbox.id);
}

export const bench: Bench = { id: ID, what: "A snapshot, and the way from it to a first command", run };
