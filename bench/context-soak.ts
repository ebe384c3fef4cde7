// A hundred clients with a Python context each, in sandboxes of their own, all at once for five minutes. Each keeps a word of its own in every
// place that a context has, and looks for any other's. Runs when it is named; its quick form has ten clients for twenty seconds.

import { randomUUID } from "node:crypto";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row } from "./bench.ts";
import type { BenchServer } from "./server.ts";
import { one, watched } from "./watched.ts";

const ID = "context-soak";
const CLIENTS = 100;
const QUICK_CLIENTS = 10;
const SECONDS = 5 * 60;
const QUICK_SECONDS = 20;
/** A client is a person or a model: it asks, reads, asks again. */
const PAUSE_MS = 100;

interface Seen {
  readonly latencies: number[];
  failed: number;
  crossed: number;
  note: string;
}

/** Every word of the form that is anywhere in reach; the context's own is all there should be. */
const PLANT = (word: string): string =>
  `import os, builtins, glob\nmine = builtins.mine = os.environ["MINE"] = "${word}"\nopen("/tmp/mine-${word}", "w").close()\nrounds = 0`;
const LOOK = `rounds += 1
found = {mine, builtins.mine, os.environ["MINE"], *(name[10:] for name in glob.glob("/tmp/mine-*") + glob.glob("/dev/shm/mine-*"))}
for stat in glob.glob("/proc/[0-9]*/environ"):
    try:
        found.update(pair[5:].decode() for pair in open(stat, "rb").read().split(b"\\0") if pair.startswith(b"MINE="))
    except OSError:
        pass
(rounds, sorted(found))`;

async function client({ client: corral }: BenchServer, until: number, seen: Seen): Promise<void> {
  const word = randomUUID();
  await using sandbox = await corral.create({ timeoutMs: 15 * 60_000 });
  const { id } = await sandbox.contexts.create();
  await sandbox.contexts.run(id, { code: PLANT(word) });
  for (let round = 1; performance.now() < until; round++) {
    const began = performance.now();
    const { status, results, error } = await sandbox.contexts.run(id, { code: LOOK });
    seen.latencies.push(performance.now() - began);
    const said = results[0]?.mime["text/plain"];
    if (status !== "ok") throw new Error(`${status}: ${error?.value ?? ""}`);
    if (said !== `(${round}, ['${word}'])`) {
      seen.crossed += 1;
      seen.note = `expected round ${round} of ${word}, got ${String(said)}`;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

function run(context: BenchContext): AsyncIterable<Row> {
  const [seconds, clients] = context.quick ? [QUICK_SECONDS, QUICK_CLIENTS] : [SECONDS, CLIENTS];
  return watched(context, { id: ID, seconds }, async (server) => {
    const seen: Seen = { latencies: [], failed: 0, crossed: 0, note: "" };
    const until = performance.now() + seconds * 1000;
    const ticking = setInterval(
      () => context.progress(`${clients} clients`, Math.round(seconds - (until - performance.now()) / 1000), seconds),
      1_000,
    );
    const failed = (error: unknown): void => {
      seen.failed += 1;
      seen.note = error instanceof Error ? error.message : String(error);
    };
    await Promise.all(Array.from({ length: clients }, () => client(server, until, seen).catch(failed)));
    clearInterval(ticking);
    return [
      row({ id: ID, metric: `a call, ${clients} clients at once`, unit: "ms", samples: seen.latencies, target: "told" }),
      one(ID, { metric: "clients that failed", value: seen.failed, target: "0", met: seen.failed === 0, note: seen.note }),
      one(ID, { metric: "answers with another client's word", value: seen.crossed, target: "0", met: seen.crossed === 0, note: seen.note }),
    ];
  });
}

export const bench: Bench = { id: ID, what: "A hundred clients with a Python context each", run };
