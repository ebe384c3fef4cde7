// create → first command's exit status with no sandbox warm: spawner running, mask compiled. Beside it `bwrap --unshare-all true`
// spawned from Node.js in turn, and the whole `corral run DIR -- true` as a process.

import { join } from "node:path";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";
import { bwrapArgv, runPeer } from "./peers.ts";
import { request, smallProject, TRUE } from "./project.ts";

const ID = "create-cold";

async function* run(context: BenchContext): AsyncIterable<Row> {
  const dir = smallProject(join(context.scratch, "project"));
  const corral = await context.open();
  const peer = bwrapArgv(TRUE);
  if (peer === undefined) throw new Error("bwrap is not installed, and it is the peer: apt-get install bubblewrap");
  const stages: Record<string, number[]> = {};
  const n = context.quick ? 60 : 400;
  const { ours, theirs } = await inTurn({
    n,
    warmup: 10,
    ours: async () => {
      const start = process.hrtime.bigint();
      const sandbox = await corral.create(request(dir));
      const result = await sandbox.exec({ command: TRUE });
      const ms = Number(process.hrtime.bigint() - start) / 1e6;
      if (result.exitCode !== 0) throw new Error(`the command ended with ${result.exitCode}`);
      for (const [stage, value] of Object.entries(sandbox.info().timings)) (stages[stage] ??= []).push(value);
      await sandbox.destroy();
      return ms;
    },
    theirs: () => timed(() => runPeer(peer)),
    progress: (done, total) => context.progress("create, first command; bwrap in turn", done, total),
  });
  const against = { name: "bwrap --unshare-all true", samples: theirs };
  yield row({
    id: ID,
    metric: "in-process",
    unit: "ms",
    samples: ours,
    against,
    target: "p50 ≤ 0.5x bwrap",
    judge: ({ ratio }) => (ratio ?? 9) <= 0.5,
  });
  yield row({ id: ID, metric: "bwrap", unit: "ms", samples: theirs, target: "the peer" });
  const p99 = row({ id: ID, metric: "in-process p99", unit: "ms", samples: ours, target: "p99 ≤ 2x bwrap's p99" });
  const peerP99 = row({ id: ID, metric: "", unit: "", samples: theirs, target: "" }).p99;
  yield { ...p99, against: "bwrap p99", ratio: p99.p99 / peerP99, met: p99.p99 <= 2 * peerP99 };
  for (const [stage, samples] of Object.entries(stages))
    yield row({ id: ID, metric: `stage ${stage}`, unit: "ms", samples, target: "where the time goes" });
  const whole: number[] = [];
  const runs = context.quick ? 5 : 30;
  for (let i = 0; i < runs; i++) {
    context.progress("corral run DIR -- true as a process", i, runs);
    whole.push(
      await timed(() => runPeer([...context.corralArgv, "run", dir, "--data", join(context.scratch, "cli"), "--discard", "--", ...TRUE])),
    );
  }
  yield row({ id: ID, metric: "`corral run` as a process", unit: "ms", samples: whole, target: "told" });
}

export const bench: Bench = { id: ID, what: "A new sandbox to its first command's exit status", run };
