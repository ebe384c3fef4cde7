// How long a policy takes to become a view, for trees of several sizes, mostly-read and mostly-write, beside `find` over the same tree.
// The first create of a (codebase version, policy) compiles the mask; a second one finds it. Both are told.

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import type { Policy } from "../src/api/policy.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row, timed } from "./bench.ts";
import { runPeer } from "./peers.ts";
import { request, tree } from "./project.ts";

const ID = "view-compile";

async function* run(context: BenchContext): AsyncIterable<Row> {
  const sizes = context.quick ? [1_000, 5_000] : [1_000, 10_000, 100_000, 500_000];
  const corral = await context.open();
  const policies: readonly (readonly [string, Policy])[] = [
    ["mostly-read", await corral.policies.load("agent-safe")],
    ["mostly-write", await corral.policies.load("development")],
  ];
  for (const files of sizes) {
    context.progress(`making ${files} files`, 0, 1);
    const dir = tree(join(context.scratch, `tree-${files}`), { files, perDirectory: 20 });
    for (const [name, policy] of policies) {
      const rounds = files > 100_000 ? 3 : 5;
      const first: number[] = [];
      const again: number[] = [];
      const find: number[] = [];
      for (let i = 0; i < rounds; i++) {
        context.progress(`${files} files, ${name}`, i, rounds);
        appendFileSync(join(dir, "version.txt"), "."); // a new version: the mask of the last round does not serve this one
        find.push(await timed(() => runPeer(["/usr/bin/find", dir, "-printf", "%s %T@ %C@ %i %m\\n"])));
        first.push(await createMs());
        again.push(await createMs());
      }
      const against = { name: "find -printf of the same facts", samples: find };
      yield row({
        id: ID,
        metric: `${files.toLocaleString("en")} files ${name}, first`,
        unit: "ms",
        samples: first,
        against,
        paired: true,
        target: "≤ 3x find",
        judge: ({ ratio }) => (ratio ?? 9) <= 3,
      });
      yield row({
        id: ID,
        metric: `${files.toLocaleString("en")} files ${name}, again`,
        unit: "ms",
        samples: again,
        against,
        paired: true,
        target: "≤ 3x find",
        judge: ({ ratio }) => (ratio ?? 9) <= 3,
      });

      async function createMs(): Promise<number> {
        const start = performance.now();
        const sandbox = await corral.create(request(dir, { policy }));
        const ms = performance.now() - start;
        await sandbox.destroy();
        return ms;
      }
    }
  }
}

export const bench: Bench = { id: ID, what: "A policy becomes a view", run };
