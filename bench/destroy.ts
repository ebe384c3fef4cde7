// destroy of an idle sandbox → its process, mounts, cgroups, socket and delta are gone; what is left over is counted by the census.

import { join } from "node:path";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row, timed } from "./bench.ts";
import { request, smallProject, TRUE } from "./project.ts";

const ID = "destroy";

async function* run(context: BenchContext): AsyncIterable<Row> {
  const dir = smallProject(join(context.scratch, "project"));
  const corral = await context.open();
  const samples: number[] = [];
  const made = new Set<string>();
  const n = context.quick ? 60 : 400;
  for (let i = 0; i < n + 10; i++) {
    context.progress("create, one command, destroy", i, n);
    const sandbox = await corral.create(request(dir));
    made.add(sandbox.id);
    await sandbox.exec({ command: TRUE });
    const ms = await timed(() => sandbox.destroy());
    if (i >= 10) samples.push(ms);
  }
  yield row({ id: ID, metric: "idle sandbox", unit: "ms", samples, target: "p50 ≤ 1 ms", judge: ({ p50 }) => p50 <= 1 });
  const left = (await corral.census()).filter((entry) => entry.sandboxId !== undefined && made.has(entry.sandboxId));
  yield row({
    id: ID,
    metric: "leftovers",
    unit: "objects",
    samples: [left.length],
    target: "0",
    judge: ({ p50 }) => p50 === 0,
    note: left.map((entry) => entry.kind).join(" "),
  });
}

export const bench: Bench = { id: ID, what: "Destroy until nothing is left", run };
