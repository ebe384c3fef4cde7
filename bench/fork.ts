// A second sandbox with the files of a first one that changed many: of one without processes, whose changes become a layer of both; of one
// that runs a shell, whose changes are copied while it stands still, against `cp -r` of the same files; and of one that stands on a
// snapshot already and changed few since.

import { join } from "node:path";
import type { Corral } from "../src/api/corral.ts";
import type { Sandbox } from "../src/api/sandbox.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";
import { runPeer } from "./peers.ts";
import { smallProject } from "./project.ts";
import { done, newSnapshotId, writable } from "./snapshot-restore.ts";

const ID = "fork";
const FEW = 50;

async function* run(context: BenchContext): AsyncIterable<Row> {
  const corral = await context.open();
  const dir = smallProject(join(context.scratch, "project"));
  const files = context.quick ? 300 : 10_000;
  const filled = async (): Promise<Sandbox> => {
    const sandbox = await corral.create(writable(dir));
    await done(sandbox, change(files, "many"));
    return sandbox;
  };
  const live = await filled();
  const shell = await live.shells.open({});
  const copy = join(context.scratch, "copy");
  const upper = join(context.scratch, "data", "deltas", live.id, "upper");
  const { ours, theirs } = await inTurn({
    n: context.quick ? 3 : 25,
    warmup: 1,
    ours: () => fork(corral, live.id),
    theirs: async () => {
      const took = await timed(() => runPeer(["cp", "-r", upper, copy]));
      await runPeer(["rm", "-rf", copy]);
      return took;
    },
    progress: (at, total) => context.progress(`fork of a sandbox with a live shell; cp -r in turn`, at, total),
  });
  yield row({
    id: ID,
    metric: `${files} changed files, with a live shell`,
    unit: "ms",
    samples: ours,
    against: { name: "cp -r", samples: theirs },
    target: "≤ 0.5x cp -r",
    judge: ({ ratio }) => (ratio ?? 9) <= 0.5,
  });
  await live.shells.close(shell.id);
  const origin = newSnapshotId();
  await corral.snapshots.take(live.id, origin);
  const few: number[] = [];
  const after = await corral.snapshots.create(origin, {});
  await done(after, change(FEW, "few"));
  for (let i = 0; i < (context.quick ? 5 : 50); i++) few.push(await fork(corral, after.id));
  yield row({
    id: ID,
    metric: `made from a snapshot of ${files} changed files, ${FEW} changed since`,
    unit: "ms",
    samples: few,
    target: "p50 ≤ 20 ms",
    judge: ({ p50 }) => p50 <= 20,
  });
  for (const sandbox of [after, live]) await sandbox.destroy();
  await corral.snapshots.remove(origin);
  const [still, cold]: [number[], number[]] = [[], []];
  const n = context.quick ? 3 : 15;
  for (let i = 0; i < n; i++) {
    context.progress("fork of a sandbox without processes; a cold create in turn", i, n);
    const sandbox = await filled();
    await sandbox.pause(false);
    still.push(await fork(corral, sandbox.id));
    await corral.paused.destroy(sandbox.id);
    let fresh: Sandbox | undefined;
    cold.push(await timed(async () => (fresh = await corral.create(writable(dir)))));
    await fresh?.destroy();
  }
  yield row({
    id: ID,
    metric: `${files} changed files, without processes`,
    unit: "ms",
    samples: still,
    against: { name: "a cold create", samples: cold },
    target: "p50 ≤ 5 ms",
    judge: ({ p50 }) => p50 <= 5,
  });
}

function change(files: number, into: string): string {
  return `mkdir -p ${into} && cd ${into} && head -c 1024 /dev/zero > 0 && seq 1 ${files - 1} | xargs -n 500 sh -c 'for name; do cp 0 $name 2>&1 || exit 1; done' sh`;
}

/** Until the fork runs. */
async function fork(corral: Corral, sandboxId: string): Promise<number> {
  const id = newSnapshotId();
  const start = process.hrtime.bigint();
  await corral.snapshots.take(sandboxId, id, { passing: true });
  const made = await corral.snapshots.create(id, {});
  const ms = Number(process.hrtime.bigint() - start) / 1e6;
  await corral.snapshots.remove(id);
  await made.destroy();
  return ms;
}

export const bench: Bench = { id: ID, what: "A sandbox with the files of another one", run };
