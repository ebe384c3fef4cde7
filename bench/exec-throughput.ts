// Commands a second over 1, 8 and 64 sandboxes; each sandbox runs one command after the other.

import { join } from "node:path";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row } from "./bench.ts";
import { request, smallProject, TRUE } from "./project.ts";

const ID = "exec-throughput";
const GOALS: readonly { readonly sandboxes: number; readonly perSecond: number }[] = [
  { sandboxes: 1, perSecond: 3000 },
  { sandboxes: 8, perSecond: 5000 },
  { sandboxes: 64, perSecond: 5000 },
];

async function* run(context: BenchContext): AsyncIterable<Row> {
  const dir = smallProject(join(context.scratch, "project"));
  const corral = await context.open();
  const seconds = context.quick ? 1 : 2;
  const rounds = context.quick ? 3 : 10;
  for (const goal of GOALS) {
    await using stack = new AsyncDisposableStack();
    const sandboxes = [];
    for (let i = 0; i < goal.sandboxes; i++) sandboxes.push(stack.use(await corral.create(request(dir))));
    const samples: number[] = [];
    for (let round = 0; round < rounds; round++) {
      context.progress(`${goal.sandboxes} sandboxes`, round, rounds);
      let done = 0;
      const start = performance.now();
      const end = start + seconds * 1000;
      await Promise.all(
        sandboxes.map(async (sandbox) => {
          while (performance.now() < end) {
            const result = await sandbox.exec({ command: TRUE });
            if (result.exitCode !== 0) throw new Error(`a command ended with ${result.exitCode}`);
            done++;
          }
        }),
      );
      samples.push((done * 1000) / (performance.now() - start));
    }
    yield row({
      id: ID,
      metric: `${goal.sandboxes} ${goal.sandboxes === 1 ? "sandbox" : "sandboxes"}`,
      unit: "commands/s",
      samples,
      target: `≥ ${goal.perSecond.toLocaleString("en")}/s`,
      judge: ({ p50 }) => p50 >= goal.perSecond,
    });
  }
}

export const bench: Bench = { id: ID, what: "Commands a second", run };
