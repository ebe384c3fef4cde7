// A server under steady load: a create, a command and a destroy, fifty times a second, for half an hour.
// Runs when it is named; its quick form lasts half a minute. What grows meanwhile and what is left: watched.ts.

import type { Bench, BenchContext, Row } from "./bench.ts";
import { row } from "./bench.ts";
import { TRUE } from "./project.ts";
import type { BenchServer } from "./server.ts";
import { one, watched } from "./watched.ts";

const ID = "soak";
const PER_SECOND = 50;
const SECONDS = 30 * 60;
const QUICK_SECONDS = 30;
/** More under way at once means that the machine does not keep up; further ones are counted as late and not begun. */
const MAX_UNDER_WAY = 200;

function run(context: BenchContext): AsyncIterable<Row> {
  const seconds = context.quick ? QUICK_SECONDS : SECONDS;
  return watched(context, { id: ID, seconds }, async (server) => {
    const progress = (done: number): void => context.progress(`${PER_SECOND} a second`, done, seconds * PER_SECOND);
    const { latencies, failed, failures, late } = await underLoad(server, seconds, progress);
    return [
      row({ id: ID, metric: "create, command, destroy", unit: "ms", samples: latencies, target: "told" }),
      one(ID, { metric: "failed", value: failed, target: "0", met: failed === 0, note: failures }),
      one(ID, { metric: "not begun, since the machine did not keep up", value: late, target: "0", met: late === 0 }),
    ];
  });
}

interface Load {
  readonly latencies: number[];
  failed: number;
  late: number;
  failures: string;
}

/** An open loop: the next one begins at its time, whether or not those before have ended. */
async function underLoad({ client }: BenchServer, seconds: number, progress: (done: number) => void): Promise<Load> {
  const load: Load = { latencies: [], failed: 0, late: 0, failures: "" };
  const underWay = new Set<Promise<void>>();
  const round = async (): Promise<void> => {
    const began = performance.now();
    try {
      await using sandbox = await client.create({ timeoutMs: 60_000 });
      const { exitCode } = await sandbox.exec({ command: TRUE });
      if (exitCode !== 0) throw new Error(`exit code ${exitCode}`);
    } catch (error) {
      load.failed++;
      load.failures = error instanceof Error ? error.message : String(error);
      return;
    }
    load.latencies.push(performance.now() - began);
  };
  const began = performance.now();
  for (let i = 0; i < seconds * PER_SECOND; i++) {
    const wait = began + (i * 1000) / PER_SECOND - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    if (i % PER_SECOND === 0) progress(i);
    if (underWay.size >= MAX_UNDER_WAY) load.late++;
    else {
      const running: Promise<void> = round().finally(() => underWay.delete(running));
      underWay.add(running);
    }
  }
  await Promise.all(underWay);
  return load;
}

export const bench: Bench = { id: ID, what: "A server under steady load", run };
