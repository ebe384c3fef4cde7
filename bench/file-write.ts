// Writing small files of a sandbox, each whole or not at all: over HTTP and in this process, beside node:fs on the host in turn (a plain write,
// and one that is as whole: written aside and renamed); and how many a second.

import { mkdirSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";
import { httpRequest, perSecond } from "./file-load.ts";
import { benchServer } from "./server.ts";

const ID = "file-write";
const CONNECTIONS = 32;
/** Files that are written over and over. */
const NAMES = 500;
const CONTENT = Buffer.alloc(1024, "content of a file ");

async function* latency(context: BenchContext): AsyncIterable<Row> {
  const host = join(context.scratch, "host");
  mkdirSync(host, { recursive: true });
  await using server = await benchServer(context);
  await using remote = await server.client.create({});
  const corral = await context.open();
  await using local = await corral.create({ policy: await corral.policies.load("full-access") });
  let count = 0;
  const name = (): string => `f${count++ % NAMES}`;
  const whole = async (): Promise<void> => {
    const path = join(host, name());
    await writeFile(`${path}.part`, CONTENT);
    await rename(`${path}.part`, path);
  };
  for (const [metric, files] of [
    ["1 KB, HTTP", remote.files],
    ["1 KB, in-process", local.files],
  ] as const) {
    const { ours, theirs } = await inTurn({
      n: context.quick ? 100 : 3000,
      warmup: NAMES,
      ours: () => timed(() => files.write(`/workspace/${name()}`, CONTENT)),
      theirs: () => timed(whole),
      progress: (done, total) => context.progress(`${metric}; node:fs in turn`, done, total),
    });
    const against = { name: "node:fs, written aside and renamed", samples: theirs };
    const facts = { id: ID, metric, unit: "ms", samples: ours, against };
    if (metric.endsWith("in-process")) yield row({ ...facts, target: "told" });
    else yield row({ ...facts, target: "p50 ≤ 0.5 ms, p99 ≤ 2 ms", judge: ({ p50, p99 }) => p50 <= 0.5 && p99 <= 2 });
  }
}

async function* run(context: BenchContext): AsyncIterable<Row> {
  yield* latency(context);
  await using server = await benchServer(context);
  await using sandbox = await server.client.create({});
  const at = `/v1/sandboxes/${sandbox.id}/files/content?path=/workspace/f`;
  const request = (n: number): Buffer => httpRequest("PUT", `${at}${n % NAMES}`, server.key, CONTENT);
  const rounds = context.quick ? 3 : 10;
  const samples: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    context.progress("1 KB writes a second", round, rounds);
    const rate = await perSecond({ url: server.url, request, status: 201, connections: CONNECTIONS, ms: context.quick ? 1000 : 2000 });
    if (round > 0) samples.push(rate); // the first warms up
  }
  yield row({
    id: ID,
    metric: `1 KB writes, ${CONNECTIONS} at once, HTTP`,
    unit: "/s",
    samples,
    target: "≥ 5,000/s",
    judge: ({ p50 }) => p50 >= 5000,
  });
}

export const bench: Bench = { id: ID, what: "Writing a file of 1 KB", run };
