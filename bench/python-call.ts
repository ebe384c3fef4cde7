// A call of Python: a new interpreter for each against a context that lives, over the seven workloads of the requirement; beside both the
// workload's own time in a bare interpreter, which no call can be faster than. Then how many calls a second for 1, 4 and 16 callers.

import { join } from "node:path";
import type { Sandbox } from "../src/api/sandbox.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, percentile, row, timed } from "./bench.ts";
import { figure } from "./print.ts";
import { request, smallProject } from "./project.ts";
import { benchServer } from "./server.ts";

const ID = "python-call";
const CALLERS = [1, 4, 16];
const WORKLOADS: Readonly<Record<string, string>> = {
  simple_calc: "1 + 1",
  loop_calc: "total = 0\nfor i in range(10_000):\n    total += i * i\ntotal",
  string_ops: "text = ' '.join(f'word{i}' for i in range(1_000))\nlen(text.upper().replace('WORD', 'w').split())",
  list_comp: "sum(x * x for x in [y for y in range(10_000) if y % 3 == 0])",
  dict_ops: "d = {f'key{i}': i for i in range(2_000)}\nsum(v for k, v in sorted(d.items()) if k.endswith('7'))",
  json_parsing: "import json\nlen(json.loads(json.dumps([{'id': i, 'name': f'n{i}', 'tags': ['a', 'b']} for i in range(500)])))",
  mixed_workload:
    "import json, re\nrows = [{'n': i, 's': f'item-{i}'} for i in range(500)]\nkept = [r for r in json.loads(json.dumps(rows)) if re.search(r'7$', r['s'])]\nsum(r['n'] for r in kept)",
};

/** Its own time, ms: read, compiled and run as a cell is, without a call around it. */
function bareScript(code: string, n: number): string {
  return `import time, json, re\ncode = ${JSON.stringify(code)}\nfor i in range(${n}):\n  at = time.perf_counter()\n  exec(compile(code, 'cell', 'exec'), {})\n  print((time.perf_counter() - at) * 1000)`;
}

async function* run(context: BenchContext): AsyncIterable<Row> {
  const corral = await context.open();
  await using sandbox = await corral.create(request(smallProject(join(context.scratch, "project"))));
  const { id } = await sandbox.contexts.create();
  for (const [name, code] of Object.entries(WORKLOADS)) yield* workload(context, { sandbox, id, name, code });
  for (const callers of CALLERS) yield* throughput(context, sandbox, callers);
  await using server = await benchServer(context);
  const remote = await server.client.create({});
  const { id: live } = await remote.contexts.create();
  const samples = await repeated(context.quick ? 200 : 2_000, () => remote.contexts.run(live, { code: "1+1" }));
  yield row({ id: ID, metric: "1 + 1 over HTTP", unit: "ms", samples, target: "p50 ≤ 1 ms", judge: ({ p50 }) => p50 <= 1 });
  await remote.destroy();
}

interface Work {
  readonly sandbox: Sandbox;
  readonly id: string;
  readonly name: string;
  readonly code: string;
}

async function* workload(context: BenchContext, { sandbox, id, name, code }: Work): AsyncIterable<Row> {
  const n = context.quick ? 20 : 100;
  const live = (): Promise<number> => timed(() => sandbox.contexts.run(id, { code }));
  const { ours, theirs } = await inTurn({
    n,
    warmup: 3,
    ours: live,
    theirs: () => timed(() => sandbox.exec({ command: ["python3", "-c", code] })),
    progress: (done, total) => context.progress(name, done, total),
  });
  // In turn with processes the caches are cold; what a context does all day is this.
  const warm = await repeated(n * 5, () => sandbox.contexts.run(id, { code }));
  const bare = (await sandbox.exec({ command: ["python3", "-c", bareScript(code, n * 5)] })).stdout;
  const own = Buffer.from(bare).toString().trim().split("\n").map(Number);
  const isSimple = name === "simple_calc";
  const over = percentile(warm, 0.5) - percentile(own, 0.5);
  yield row({
    id: ID,
    metric: `${name}, live context`,
    unit: "ms",
    samples: warm,
    against: { name: "a process per call", samples: theirs },
    target: isSimple ? "throughput ≥ 50x, p50 ≤ 0.3 ms" : "p50 less its own time ≤ 0.3 ms",
    judge: ({ p50, ratio }) => (isSimple ? (ratio ?? 9) <= 1 / 50 && p50 <= 0.3 : over <= 0.3),
    note: `live ${facts(warm)}; process ${facts(theirs)}; ${change(warm, theirs)}; its own time ${figure(percentile(own, 0.5))}, over it ${figure(over)}`,
  });
  yield row({ id: ID, metric: `${name}, live context in turn with processes`, unit: "ms", samples: ours, target: "told" });
}

async function* throughput(context: BenchContext, sandbox: Sandbox, callers: number): AsyncIterable<Row> {
  const code = WORKLOADS["mixed_workload"] ?? "1";
  const { contexts } = sandbox;
  const ids = await Promise.all(Array.from({ length: callers }, async () => (await contexts.create()).id));
  const ms = context.quick ? 300 : 2_000;
  const ways: Readonly<Record<string, (index: number) => Promise<unknown>>> = {
    "live contexts, one each": (index) => contexts.run(ids[index] ?? "", { code }),
    "fresh forks, one a call": () => contexts.runAlone({ code }),
    "a process per call": () => sandbox.exec({ command: ["python3", "-c", code] }),
  };
  for (const [way, call] of Object.entries(ways)) {
    context.progress(`${callers} callers, ${way}`, 0, 1);
    const { samples, perSecond } = await asked(callers, ms, call);
    const note = `${figure(perSecond)} calls/s`;
    yield row({ id: ID, metric: `mixed_workload, ${callers} callers, ${way}`, unit: "ms", samples, target: "told", note });
  }
  await Promise.all(ids.map((id) => contexts.delete(id)));
}

async function asked(
  callers: number,
  ms: number,
  call: (index: number) => Promise<unknown>,
): Promise<{ samples: number[]; perSecond: number }> {
  const samples: number[] = [];
  const start = performance.now();
  const one = async (index: number): Promise<void> => {
    while (performance.now() - start < ms) samples.push(await timed(() => call(index)));
  };
  await Promise.all(Array.from({ length: callers }, (_, index) => one(index)));
  return { samples, perSecond: (samples.length * 1_000) / (performance.now() - start) };
}

async function repeated(n: number, act: () => Promise<unknown>): Promise<number[]> {
  for (let i = 0; i < 20; i++) await act();
  const samples: number[] = [];
  for (let i = 0; i < n; i++) samples.push(await timed(act));
  return samples;
}

const mean = (samples: readonly number[]): number => samples.reduce((sum, value) => sum + value, 0) / samples.length;

function facts(samples: readonly number[]): string {
  const ends = [Math.min(...samples), Math.max(...samples)].map(figure).join(" to ");
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => figure(percentile(samples, share)));
  const average = mean(samples);
  return `average ${figure(average)}, median ${p50}, p95 ${p95}, p99 ${p99}, ${ends}, ${figure(1_000 / average)} calls/s`;
}

function change(ours: readonly number[], theirs: readonly number[]): string {
  const less = (1 - mean(ours) / mean(theirs)) * 100;
  return `average ${figure(-less)} %, calls/s +${figure((mean(theirs) / mean(ours) - 1) * 100)} %`;
}

export const bench: Bench = { id: ID, what: "A call of Python, in a process of its own and in a context that lives", run };
