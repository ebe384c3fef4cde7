// A new Python context, forked from an interpreter inside that has its modules, against `python3` started in the sandbox with the same imports.

import { join } from "node:path";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";
import { request, smallProject } from "./project.ts";

const ID = "python-context";
const IMPORTS = "json, re, math, random, datetime, collections, itertools, functools, asyncio";
/** numpy as the forker does it: where it is there. */
const COLD = `import ${IMPORTS}\ntry: import numpy\nexcept ImportError: pass`;
/** Debian's, with what apt installed for it. */
const PATH = "/usr/bin:/bin";

async function* run(context: BenchContext): AsyncIterable<Row> {
  const corral = await context.open();
  await using sandbox = await corral.create(request(smallProject(join(context.scratch, "project"))));
  const { contexts } = sandbox;
  const env = { PATH };
  const first = await timed(() => contexts.create({ env }));
  const made: string[] = [];
  const { ours, theirs } = await inTurn({
    n: context.quick ? 10 : 50,
    warmup: 2,
    ours: async () => {
      const took = await timed(async () => made.push((await contexts.create({ env })).id));
      await Promise.all(made.splice(0).map((id) => contexts.delete(id)));
      return took;
    },
    theirs: () => timed(() => sandbox.exec({ command: ["python3", "-c", COLD], env })),
    progress: (done, total) => context.progress("a context; python3 with the same imports in turn", done, total),
  });
  const numpy = await sandbox.exec({ command: ["python3", "-c", "import numpy"], env });
  yield row({
    id: ID,
    metric: "ready, forked",
    unit: "ms",
    samples: ours,
    against: { name: "python3 started cold", samples: theirs },
    target: "p50 ≤ 1/8 of cold",
    judge: ({ ratio }) => (ratio ?? 9) <= 1 / 8,
    note: numpy.exitCode === 0 ? "with numpy" : "without numpy: it is not installed",
  });
  yield row({ id: ID, metric: "the first of a sandbox", unit: "ms", samples: [first], target: "told" });
  const { id } = await contexts.create({ language: "javascript" });
  await contexts.delete(id);
  const node: number[] = [];
  for (let i = 0; i < (context.quick ? 3 : 20); i++)
    node.push(
      await timed(async () => {
        const { id: next } = await contexts.create({ language: "javascript" });
        made.push(next);
      }),
    );
  yield row({ id: ID, metric: "JavaScript, ready", unit: "ms", samples: node, target: "told" });
}

export const bench: Bench = { id: ID, what: "A new context of an interpreter", run };
