// 1 GB of stdout through exec in-process, beside the same program into a pipe of Node.js; and the guest's memory while the reader sleeps.

import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row, timed } from "./bench.ts";
import { guestPids, pssKib } from "./guests.ts";
import { request, smallProject } from "./project.ts";

const ID = "stream";
const MB = 1e6;
const STALL_MS = 2000;

async function* run(context: BenchContext): AsyncIterable<Row> {
  const bytes = context.quick ? 200 * MB : 1000 * MB;
  const command = ["/usr/bin/head", "-c", String(bytes), "/dev/zero"];
  const dir = smallProject(join(context.scratch, "project"));
  const corral = await context.open();
  await using sandbox = await corral.create(request(dir));
  const rounds = context.quick ? 3 : 10;
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let i = 0; i < rounds; i++) {
    context.progress(`${bytes / MB} MB of stdout`, i, rounds);
    let seen = 0;
    const ms = await timed(() =>
      sandbox.exec({ command, outputBytes: Number.POSITIVE_INFINITY, onStdout: (chunk) => void (seen += chunk.length) }),
    );
    if (seen !== bytes) throw new Error(`${seen} of ${bytes} bytes came`);
    ours.push(bytes / MB / (ms / 1000));
    theirs.push(bytes / MB / ((await pipeMs(command, bytes)) / 1000));
  }
  yield row({
    id: ID,
    metric: "stdout, in-process",
    unit: "MB/s",
    samples: ours,
    against: { name: "a pipe of Node.js", samples: theirs },
    paired: true,
    target: "≥ 500 MB/s",
    judge: ({ p50 }) => p50 >= 500,
  });
  yield row({
    id: ID,
    metric: "guest with a stalled reader",
    unit: "KiB",
    samples: [await stalledKib(sandbox)],
    target: "≤ 4,096 KiB",
    judge: ({ p50 }) => p50 <= 4096,
  });
}

function pipeMs(command: readonly string[], bytes: number): Promise<number> {
  return timed(
    () =>
      new Promise<void>((resolve, reject) => {
        const child = spawn(command[0] ?? "", command.slice(1), { stdio: ["ignore", "pipe", "ignore"] });
        let seen = 0;
        child.stdout.on("data", (chunk: Buffer) => void (seen += chunk.length));
        child.once("error", reject);
        child.once("close", () => (seen === bytes ? resolve() : reject(new Error("the pipe lost bytes"))));
      }),
  );
}

/** Private memory of the largest PID 1 while its reader takes nothing. */
async function stalledKib(sandbox: {
  start(request: {
    command: readonly string[];
    outputBytes: number;
    onStdout: () => Promise<void>;
  }): Promise<{ stop(): void; result: Promise<unknown> }>;
}): Promise<number> {
  const gate = Promise.withResolvers<void>();
  const running = await sandbox.start({ command: ["/usr/bin/yes"], outputBytes: Number.POSITIVE_INFINITY, onStdout: () => gate.promise });
  await new Promise((resolve) => setTimeout(resolve, STALL_MS));
  const kib = Math.max(0, ...pssKib(guestPids()));
  running.stop();
  gate.resolve();
  await running.result;
  return kib;
}

export const bench: Bench = { id: ID, what: "Output through exec", run };
