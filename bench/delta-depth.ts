// What a deep delta costs: list, read and exec through many files on sixteen frozen layers, against a sandbox that changed nothing, in turn.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Corral } from "../src/api/corral.ts";
import { MAX_LAYERS } from "../src/api/limits.ts";
import type { Sandbox } from "../src/api/sandbox.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";
import { smallProject, TRUE } from "./project.ts";
import { done, newSnapshotId, writable } from "./snapshot-restore.ts";

const ID = "delta-depth";
const LISTED = 50;
const LIMIT = 1.2;

async function* run(context: BenchContext): AsyncIterable<Row> {
  const corral = await context.open();
  const dir = smallProject(join(context.scratch, "project"));
  mkdirSync(join(dir, "listed"));
  for (let i = 0; i < LISTED; i++) writeFileSync(join(dir, "listed", `file-${i}`), "x".repeat(1024));
  const files = context.quick ? 4_000 : 100_000;
  const asked = writable(dir);
  const empty = await corral.create(asked);
  const deep = await deepen(context, corral, await corral.create(asked), files);
  const operations: Readonly<Record<string, (sandbox: Sandbox) => Promise<unknown>>> = {
    "list a directory": (sandbox) => sandbox.files.list("/workspace/listed"),
    "read a file": (sandbox) => sandbox.files.read("/workspace/listed/file-7"),
    exec: (sandbox) => done(sandbox, TRUE),
  };
  for (const [metric, act] of Object.entries(operations)) {
    const { ours, theirs } = await inTurn({
      n: context.quick ? 60 : 400,
      warmup: 20,
      ours: () => timed(() => act(deep)),
      theirs: () => timed(() => act(empty)),
      progress: (at, total) => context.progress(metric, at, total),
    });
    yield row({
      id: ID,
      metric: `${metric}, ${files} files on ${MAX_LAYERS} layers`,
      unit: "ms",
      samples: ours,
      against: { name: "an empty delta", samples: theirs },
      target: `≤ ${LIMIT}x an empty delta`,
      judge: ({ ratio }) => (ratio ?? 9) <= LIMIT,
    });
  }
  for (const sandbox of [deep, empty]) await sandbox.destroy();
}

async function deepen(context: BenchContext, corral: Corral, origin: Sandbox, files: number): Promise<Sandbox> {
  let sandbox = origin;
  const each = files / MAX_LAYERS;
  for (let layer = 0; layer < MAX_LAYERS; layer++) {
    context.progress("writing the layers", layer, MAX_LAYERS);
    await done(sandbox, `mkdir many-${layer} && cd many-${layer} && seq 1 ${each} | xargs touch`);
    await sandbox.pause(false);
    const id = newSnapshotId();
    await corral.snapshots.take(sandbox.id, id);
    sandbox = await corral.paused.resume(sandbox.id);
    await corral.snapshots.remove(id);
  }
  return sandbox;
}

export const bench: Bench = { id: ID, what: "Reading and running through a deep delta", run };
