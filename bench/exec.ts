// One command in a running sandbox, in-process, beside Node.js `spawn` of the same command on the host, in turn.

import { join } from "node:path";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";
import { runPeer } from "./peers.ts";
import { request, smallProject } from "./project.ts";

const ID = "exec";
const COMMANDS: readonly (readonly string[])[] = [["/bin/true"], ["/bin/sh", "-c", "echo hi"]];

async function* run(context: BenchContext): AsyncIterable<Row> {
  const dir = smallProject(join(context.scratch, "project"));
  const corral = await context.open();
  await using sandbox = await corral.create(request(dir));
  for (const command of COMMANDS) {
    const name = command.length === 1 ? "true" : "sh -c 'echo hi'";
    const { ours, theirs } = await inTurn({
      n: context.quick ? 200 : 2000,
      warmup: 50,
      ours: () => timed(() => sandbox.exec({ command })),
      theirs: () => timed(() => runPeer(command)),
      progress: (done, total) => context.progress(name, done, total),
    });
    const against = { name: "Node.js spawn on the host", samples: theirs };
    yield row({
      id: ID,
      metric: name,
      unit: "ms",
      samples: ours,
      against,
      target: "p50 ≤ 1x spawn",
      judge: ({ ratio }) => (ratio ?? 9) <= 1,
    });
    yield row({ id: ID, metric: `${name}, spawn`, unit: "ms", samples: theirs, target: "the floor" });
  }
}

export const bench: Bench = { id: ID, what: "A command in a running sandbox", run };
