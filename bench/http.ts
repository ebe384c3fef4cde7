// Corral over HTTP beside Corral in this process, in turn: a new sandbox, a command, a stream of output, and a hundred creates at once.

import { join } from "node:path";
import type { Client, SandboxHandle } from "../src/api/client.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";
import { request, smallProject, TRUE } from "./project.ts";
import { benchServer } from "./server.ts";

const MB = 1e6;
const BURST = 100;

function demandOk({ exitCode }: { readonly exitCode: number }): void {
  if (exitCode !== 0) throw new Error(`the command ended with ${exitCode}`);
}

async function* createHttp(context: BenchContext): AsyncIterable<Row> {
  const dir = smallProject(join(context.scratch, "project"));
  const corral = await context.open();
  await using server = await benchServer(context);
  const body = { codebaseDir: dir, policy: request(dir).policy };
  const { ours, theirs } = await inTurn({
    n: context.quick ? 40 : 300,
    warmup: 10,
    ours: async () => {
      const began = performance.now();
      const sandbox = await server.client.create(body);
      demandOk(await sandbox.exec({ command: TRUE }));
      const ms = performance.now() - began;
      await sandbox.destroy();
      return ms;
    },
    theirs: async () => {
      const began = performance.now();
      const sandbox = await corral.create(request(dir));
      demandOk(await sandbox.exec({ command: TRUE }));
      const ms = performance.now() - began;
      await sandbox.destroy();
      return ms;
    },
    progress: (done, total) => context.progress("create, first command; in-process in turn", done, total),
  });
  const samples = ours.map((ms, index) => ms - (theirs[index] ?? Number.NaN));
  const against = { name: "in-process", samples: theirs };
  yield row({ id: "create-http", metric: "create, first command", unit: "ms", samples: ours, against, paired: true, target: "told" });
  yield row({
    id: "create-http",
    metric: "HTTP above in-process",
    unit: "ms",
    samples,
    target: "≤ 1 ms at p50",
    judge: ({ p50 }) => p50 <= 1,
  });
}

async function* execHttp(context: BenchContext): AsyncIterable<Row> {
  const corral = await context.open();
  const dir = smallProject(join(context.scratch, "project"));
  await using server = await benchServer(context);
  await using here = await corral.create(request(dir));
  await using there = await server.client.create({});
  const { ours, theirs } = await inTurn({
    n: context.quick ? 200 : 2000,
    warmup: 100,
    ours: () => timed(async () => demandOk(await there.exec({ command: TRUE }))),
    theirs: () => timed(async () => demandOk(await here.exec({ command: TRUE }))),
    progress: (done, total) => context.progress("true over HTTP; in-process in turn", done, total),
  });
  yield row({
    id: "exec-http",
    metric: "true",
    unit: "ms",
    samples: ours,
    against: { name: "in-process", samples: theirs },
    paired: true,
    target: "≤ 1 ms at p50",
    judge: ({ p50 }) => p50 <= 1,
  });
  for (const count of [1, 8, 64]) yield await throughput(context, server.client, count);
}

async function throughput(context: BenchContext, client: Client, count: number): Promise<Row> {
  await using stack = new AsyncDisposableStack();
  const sandboxes: SandboxHandle[] = [];
  for (let i = 0; i < count; i++) sandboxes.push(stack.use(await client.create({})));
  const rounds = context.quick ? 3 : 10;
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    context.progress(`${count} sandboxes`, round, rounds);
    let done = 0;
    const began = performance.now();
    const end = began + (context.quick ? 1000 : 2000);
    const serve = async (sandbox: SandboxHandle): Promise<void> => {
      for (; performance.now() < end; done++) demandOk(await sandbox.exec({ command: TRUE }));
    };
    await Promise.all(sandboxes.map(serve));
    samples.push((done * 1000) / (performance.now() - began));
  }
  const metric = `commands a second, ${count} ${count === 1 ? "sandbox" : "sandboxes"}`;
  if (count === 1) return row({ id: "exec-http", metric, unit: "/s", samples, target: "told" });
  return row({ id: "exec-http", metric, unit: "/s", samples, target: "≥ 2,500/s", judge: ({ p50 }) => p50 >= 2500 });
}

async function* streamHttp(context: BenchContext): AsyncIterable<Row> {
  const bytes = context.quick ? 100 * MB : 1000 * MB;
  const command = ["/usr/bin/head", "-c", String(bytes), "/dev/zero"];
  await using server = await benchServer(context);
  await using sandbox = await server.client.create({});
  const rounds = context.quick ? 3 : 10;
  const samples: number[] = [];
  for (let i = 0; i < rounds; i++) {
    context.progress(`${bytes / MB} MB of stdout over HTTP`, i, rounds);
    let seen = 0;
    const ms = await timed(async () => demandOk(await sandbox.exec({ command, onStdout: (chunk) => void (seen += chunk.length) })));
    if (seen !== bytes) throw new Error(`${seen} of ${bytes} bytes came`);
    samples.push(bytes / MB / (ms / 1000));
  }
  yield row({
    id: "stream-http",
    metric: "stdout",
    unit: "MB/s",
    samples,
    target: "≥ 150 MB/s",
    judge: ({ p50 }) => p50 >= 150,
  });
}

/** Each sample is one create and its first command, from the moment at which all hundred were asked. */
async function* burst(context: BenchContext): AsyncIterable<Row> {
  await using server = await benchServer(context);
  const rounds = context.quick ? 2 : 10;
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    context.progress(`${BURST} creates at once`, round, rounds);
    const began = performance.now();
    const one = async (): Promise<SandboxHandle> => {
      const sandbox = await server.client.create({});
      demandOk(await sandbox.exec({ command: TRUE }));
      samples.push(performance.now() - began);
      return sandbox;
    };
    const sandboxes = await Promise.all(Array.from({ length: BURST }, one));
    await Promise.all(sandboxes.map((sandbox) => sandbox.destroy()));
  }
  yield row({
    id: "burst-100",
    metric: "create, first command",
    unit: "ms",
    samples,
    target: "p50 ≤ 150 ms, none fails",
    judge: ({ p50 }) => p50 <= 150,
  });
}

/** Whether one of many is answered as one alone is. */
async function* densityHttp(context: BenchContext): AsyncIterable<Row> {
  await using server = await benchServer(context);
  const count = context.quick ? 50 : 1000;
  const first = await server.client.create({ timeoutMs: null });
  const answer = (): Promise<number> => timed(async () => demandOk(await first.exec({ command: TRUE })));
  const samplesOf = async (): Promise<number[]> => {
    const samples: number[] = [];
    for (let i = 0; i < 110; i++) samples.push(await answer());
    return samples.slice(10);
  };
  const alone = await samplesOf();
  const others: SandboxHandle[] = [];
  for (let i = 1; i < count; i++) {
    context.progress("sandboxes made", i, count);
    others.push(await server.client.create({ timeoutMs: null }));
  }
  const crowded = await samplesOf();
  yield row({
    id: "density-http",
    metric: `a command with ${count} live`,
    unit: "ms",
    samples: crowded,
    against: { name: "a command with one live", samples: alone },
    target: "≤ 2x",
    judge: ({ ratio }) => (ratio ?? 9) <= 2,
  });
  let answered = 0;
  for (const sandbox of others) {
    context.progress("commands in each", answered, count);
    demandOk(await sandbox.exec({ command: TRUE }));
    answered++;
  }
  yield row({
    id: "density-http",
    metric: "sandboxes that answered",
    unit: "",
    samples: [answered + 1],
    target: `${count}`,
    judge: ({ p50 }) => p50 === count,
  });
}

export const densityBench: Bench = { id: "density-http", what: "A server with many sandboxes", run: densityHttp };
export const createBench: Bench = { id: "create-http", what: "A new sandbox over HTTP", run: createHttp };
export const execBench: Bench = { id: "exec-http", what: "A command over HTTP", run: execHttp };
export const streamBench: Bench = { id: "stream-http", what: "Output over HTTP", run: streamHttp };
export const burstBench: Bench = { id: "burst-100", what: "A hundred creates at once over HTTP", run: burst };
