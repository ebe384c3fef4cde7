// Bytes a second and time through the egress relay of a sandbox, beside a plain TCP connection over the loopback of the same sandbox. Both ends are
// bench/net-probe.c: the egress proxy itself, which judges and dials, is not in it.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openNativeRuntime } from "../src/runtime/native/runtime.ts";
import type { Container, ContainerSpec } from "../src/runtime/runtime.ts";
import { filterArch, seccompProgram } from "../src/runtime/seccomp/filter.ts";
import { openHostTemplate } from "../src/sandbox/template.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { median, row } from "./bench.ts";

const ID = "egress-relay";
const MB = 1e6;
const PORT = "7";

async function* run(context: BenchContext): AsyncIterable<Row> {
  const { scratch, quick, progress } = context;
  await using lab = await openRelay(scratch);
  const { inside, stub } = lab;
  const bytes = (quick ? 300 : 2000) * MB;
  const rounds = quick ? 5 : 10;
  const speeds: [number[], number[]] = [[], []];
  for (let i = 0; i < rounds; i++) {
    progress(`${bytes / MB} MB through the relay`, i, rounds);
    for (const [which, address] of [stub, "127.0.0.1"].entries())
      speeds[which]?.push(bytes / MB / Number(await inside(["send", address, PORT, String(bytes)])));
  }
  const [ours, plain] = speeds;
  yield row({
    id: ID,
    metric: "one connection, to the proxy's socket",
    unit: "MB/s",
    samples: ours,
    against: { name: "plain loopback TCP", samples: plain },
    paired: true,
    target: "≥ 400 MB/s",
    judge: ({ p50 }) => p50 >= 400,
  });
  const times = async (what: string, address: string): Promise<number[]> =>
    (await inside([what, address, PORT, quick ? "300" : "3000"]))
      .trim()
      .split("\n")
      .map((us) => Number(us) / 1000);
  for (const [what, metric] of [
    ["ping", "a byte there and back"],
    ["dial", "a connection and a byte there and back"],
  ] as const) {
    const samples = await times(what, stub);
    const against = { name: "plain loopback TCP", samples: await times(what, "127.0.0.1") };
    const added = median(samples) - median(against.samples);
    yield row({
      id: ID,
      metric,
      unit: "ms",
      samples,
      against,
      target: "≤ 1 ms added",
      judge: () => added <= 1,
    });
  }
}

interface Relay extends AsyncDisposable {
  /** What net-probe says inside. */
  readonly inside: (words: readonly string[]) => Promise<string>;
  /** The stub address of a name. */
  readonly stub: string;
}

async function openRelay(scratch: string): Promise<Relay> {
  for (const name of ["tools", "empty", "run", "egress"]) mkdirSync(join(scratch, name));
  const probe = join(scratch, "tools/net-probe");
  execFileSync("cc", ["-O2", "-static", "-o", probe, join(import.meta.dirname, "net-probe.c")]);
  const proxy = spawn(probe, ["proxy", join(scratch, "egress/egress.sock")], { stdio: ["ignore", "pipe", "inherit"] });
  await once(proxy.stdout, "data");
  chmodSync(join(scratch, "egress"), 0o711);
  const runtime = await openNativeRuntime({
    guestBinary: join(import.meta.dirname, "../guest/build/corral-guest"),
    runDir: join(scratch, "run"),
    mode: "auto",
    seccomp: seccompProgram({ arch: filterArch() ?? "x64", pid1Clone3: true }),
  });
  const container = await runtime.create(spec(scratch, runtime.ids));
  const inside = async (words: readonly string[]): Promise<string> => await said(container, ["/workspace/net-probe", ...words]);
  void inside(["serve", PORT]).catch(() => undefined); // until the sandbox ends
  const stub = (await said(container, ["/usr/bin/getent", "ahostsv4", "bench.test"])).split(" ")[0] ?? "";
  const end = async (): Promise<void> => {
    await runtime[Symbol.asyncDispose]();
    proxy.kill("SIGKILL");
  };
  return { inside, stub, [Symbol.asyncDispose]: end };
}

function spec(scratch: string, { uid, gid, trusted }: { uid: number; gid: number; trusted: boolean }): ContainerSpec {
  const memoryBytes = 512 * 1024 * 1024;
  const template = openHostTemplate({ dataDir: join(scratch, "data"), path: "/usr/bin:/bin", home: "/root", env: {}, uid, gid, trusted });
  const plan = template.plan({ codebaseDir: join(scratch, "run"), memoryBytes });
  const journalFile = join(scratch, "journal");
  writeFileSync(journalFile, "");
  return {
    id: `sb${process.pid}`,
    mounts: [
      ...plan.mounts,
      { kind: "overlay", target: "/workspace", lowers: [join(scratch, "tools"), join(scratch, "empty")], options: [], exec: true },
    ],
    hostname: plan.hostname,
    limits: { memoryBytes, cpus: null, pids: 64, openFiles: 1024 },
    env: plan.env,
    journalFile,
    network: { socket: join(scratch, "egress/egress.sock") },
  };
}

function said(container: Container, argv: readonly string[]): Promise<string> {
  let text = "";
  return new Promise((resolve, reject) => {
    container.exec({
      argv,
      env: {},
      cwd: "/workspace",
      stdin: false,
      pty: null,
      timeoutMs: 600_000,
      idleTimeoutMs: 0,
      graceMs: 100,
      outputBytes: 0,
      onStarted: () => undefined,
      onOutput: (_stream, chunk) => {
        text += Buffer.from(chunk).toString("latin1");
        return true;
      },
      onExit: ({ code }) => (code === 0 ? resolve(text) : reject(new Error(`${argv.join(" ")} ended with ${code}: ${text}`))),
      onLost: (reason) => reject(new Error(reason)),
    });
  });
}

export const bench: Bench = { id: ID, what: "The egress relay", run };
