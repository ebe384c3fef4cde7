// What every runtime must do for a server that was killed: its sandboxes live on in their spawner until the next server takes them, or until
// nobody does. Run by src/runtime/native and src/runtime/bwrap. Real processes, killed by kill -9.
// Invariant: what a test leaves waiting ends by itself within the wait that it was given.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { parseMounts } from "../../src/runtime/native/cgroups.ts";
import {
  isGone,
  type LabOptions,
  labFilter,
  locked,
  type NativeLab,
  openNativeLab,
  output,
  pidsOf,
  start,
  tracesOf,
} from "../fixtures/native-lab.ts";
import { verifies } from "../verifies.ts";

/** Long enough for a busy machine; what is left of a failing test ends then. */
const WAIT_MS = 20_000;
const SOON = { timeout: 15_000, interval: 10 };

interface Held {
  readonly child: ChildProcess;
  readonly dir: string;
  readonly ids: readonly string[];
  readonly pids: readonly number[];
  readonly spawner: number;
}

/** `kind`: which runtime. `missing`: what this machine lacks for it. */
export function adoptionSuite(kind: LabOptions, missing?: string): void {
  describe("after kill -9 of a server", () => {
    beforeEach((context) => {
      if (missing !== undefined) context.skip(missing);
      if (process.geteuid?.() !== 0) context.skip("as root alone; rootless.test.ts runs it without");
    });
    const hold: Hold = (options = {}, words = []) => holder({ ...kind, waitMs: WAIT_MS, ...options }, words);
    const succeed = (held: Held, options: LabOptions = {}): Promise<NativeLab> => successor(held, { ...kind, waitMs: WAIT_MS, ...options });
    takesOver(hold, succeed);
    doesNotTakeOver(hold, succeed);
  });
}

interface HoldOptions extends LabOptions {
  /** Leaves its sandboxes standing still. */
  readonly frozen?: boolean;
}

type Hold = (options?: HoldOptions, words?: readonly string[]) => Promise<Held>;
type Succeed = (held: Held, options?: LabOptions) => Promise<NativeLab>;

async function holder(options: HoldOptions, words: readonly string[]): Promise<Held> {
  const script = join(import.meta.dirname, "../fixtures/lasting-holder.ts");
  const argv = [...words, process.execPath, script, JSON.stringify(options)];
  const child = spawn(argv[0] ?? "", argv.slice(1), { stdio: ["ignore", "pipe", "inherit"], detached: true });
  if (child.stdout === null) throw new Error("the holder has no stdout");
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const held = JSON.parse(line) as Omit<Held, "child">;
  onTestFinished(async () => {
    child.kill("SIGKILL");
    if (!isGone(held.spawner)) process.kill(held.spawner, "SIGTERM");
    await expect.poll(() => isGone(held.spawner), SOON).toBe(true);
    rmSync(held.dir, { recursive: true, force: true });
  });
  return { child, ...held };
}

async function successor({ dir }: Held, options: LabOptions): Promise<NativeLab> {
  const lab = await openNativeLab({ ...options, left: dir });
  onTestFinished(() => lab.dispose());
  return lab;
}

/** The whole process group at once, as a service manager or a shell would. */
async function kill({ child }: Held): Promise<void> {
  const gone = once(child, "exit");
  process.kill(-(child.pid ?? 0), "SIGKILL");
  await gone;
}

/** Directories that a runtime made for itself. */
function instancesOf(spawner: number): string[] {
  const tops = parseMounts(readFileSync("/proc/self/mountinfo", "latin1")).map(({ path }) => join(path, "corral"));
  return tops.flatMap((top) => (existsSync(top) ? readdirSync(top).filter((name) => name.startsWith(`${spawner}-`)) : []));
}

function takesOver(hold: Hold, succeed: Succeed): void {
  verifies(
    "runtime/adoption",
    "the next server takes its sandboxes over: their files, their processes, new commands at once, and a clean end",
    async () => {
      const held = await hold();
      await kill(held);
      const lab = await succeed(held);
      expect([...lab.runtime.adopted].sort()).toEqual([...held.ids].sort());
      const containers = await Promise.all(held.ids.map((id) => lab.runtime.attach({ id })));
      expect(lab.runtime.adopted.size).toBe(0);
      for (const container of containers) {
        expect(await output(container, "cat /workspace/file /tmp/file")).toBe("kept\nalso\n");
        expect(held.pids).toEqual(expect.arrayContaining((await pidsOf(container)).slice(0, 3)));
      }
      expect(held.pids.filter(isGone)).toEqual([]);
      const [first, second] = containers;
      await first?.destroy();
      expect(tracesOf(lab, first?.id ?? "")).toEqual([]);
      // A sandbox of its own beside the one it took over.
      const own = await lab.make();
      expect(await output(own, "echo new")).toBe("new\n");
      await own.destroy();
      process.kill(
        held.pids.find((pid) => !isGone(pid) && readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("init")) ?? 0,
        "SIGKILL",
      );
      expect(await second?.lost).toMatch(/PID 1 ended|closed the connection/);
      await second?.destroy();
      expect(held.ids.flatMap((id) => tracesOf(lab, id))).toEqual([]);
      await lab.runtime[Symbol.asyncDispose]();
      await expect.poll(() => [held.spawner, ...held.pids].filter((pid) => !isGone(pid)), SOON).toEqual([]);
      expect([instancesOf(held.spawner), readdirSync(held.dir).filter((name) => name.endsWith(".spawner"))]).toEqual([[], []]);
    },
  );

  verifies(
    "runtime/adoption-kept",
    "a command that was kept goes on: its output has no hole, its stdin takes more, its end is told",
    async () => {
      const held = await hold();
      await kill(held);
      const lab = await succeed(held);
      for (const id of held.ids) {
        const container = await lab.runtime.attach({ id });
        await expect
          .poll(async () => (await container.kept()).map(({ key, isRunning, to }) => [key, isRunning, to]), SOON)
          .toEqual([["counter", true, "line 1\nline 2\n".length]]);
        const told: string[] = [];
        const { promise, resolve, reject } = Promise.withResolvers<number>();
        const attached = container.attach("counter", 0, {
          onAttached: ({ offset }) => told.push(`from ${offset}\n`),
          onUnknown: () => reject(new Error("the command is not known")),
          onOutput: (_, chunk) => told.push(Buffer.from(chunk).toString()) > 0,
          onExit: ({ code }) => resolve(code),
          onLost: (reason) => reject(new Error(reason)),
        });
        await expect.poll(() => told.length, SOON).toBeGreaterThan(1);
        await attached.write(Buffer.from("\n"));
        attached.closeStdin();
        expect(await promise).toBe(7);
        expect(told.join("")).toBe("from 0\nline 1\nline 2\nline 3\nend\n");
        container.forget("counter");
        expect(await container.kept()).toEqual([]);
      }
    },
  );

  verifies("runtime/adoption", "one server after the other takes them over, and the last one's graceful end leaves nothing", async () => {
    const held = await hold();
    await kill(held);
    for (let n = 0; n < 3; n++) {
      const next = await hold({ left: held.dir });
      expect(next.spawner).toBe(0); // it started none
      await kill(next);
    }
    const lab = await succeed(held);
    expect(lab.runtime.adopted.size).toBe(8);
    await lab.runtime[Symbol.asyncDispose](); // attached or not
    await expect.poll(() => [held.spawner, ...held.pids].filter((pid) => !isGone(pid)), SOON).toEqual([]);
    expect(held.ids.flatMap((id) => tracesOf(lab, id))).toEqual([]);
    expect(instancesOf(held.spawner)).toEqual([]);
  });

  verifies("runtime/adoption", "one that was left standing still goes on when it is taken over", async (context) => {
    const held = await hold({ frozen: true });
    await kill(held);
    const lab = await succeed(held);
    if (lab.runtime.probe.features["freezer"] === "none") return context.skip("no cgroup of this machine can freeze");
    for (const id of held.ids) expect(await output(await lab.runtime.attach({ id }), "cat /workspace/file")).toBe("kept\n");
  });

  verifies("runtime/adoption-locks", "until then nobody who reaps finds a lock that is free or a cgroup without an owner", async () => {
    const held = await hold();
    await kill(held);
    expect(held.ids.map((id) => locked(join(held.dir, `${id}.journal`)))).toEqual([true, true]);
    const other = await openNativeLab(); // sweeps cgroups of the dead
    await other.dispose();
    const lab = await succeed(held);
    const container = await lab.runtime.attach({ id: held.ids[0] ?? "" });
    const running = start(container, "setsid sleep 300 & echo up; exit 3"); // needs a slot in the sandbox's cgroup
    expect((await running.ended).exit.code).toBe(3);
  });

  verifies("runtime/adoption-cgroup", "its end by its own cgroup, as a service manager ends it, does not reach them", async (context) => {
    const top = parseMounts(readFileSync("/proc/self/mountinfo", "latin1")).find(({ type }) => type === "cgroup2")?.path;
    if (top === undefined) return context.skip("this machine mounts no cgroup v2");
    const unit = join(top, `corral-test-${process.pid}-${Math.random().toString(36).slice(2)}`);
    mkdirSync(unit);
    onTestFinished(() => expect.poll(() => rmdirSync(unit), SOON).toBe(undefined));
    const held = await hold({}, ["sh", "-c", `echo $$ > ${unit}/cgroup.procs; exec "$@"`, "sh"]);
    const gone = once(held.child, "exit");
    writeFileSync(join(unit, "cgroup.kill"), "1");
    await gone;
    const lab = await succeed(held);
    expect(lab.runtime.adopted.size).toBe(2);
    expect(held.pids.filter(isGone)).toEqual([]);
  });
}

function doesNotTakeOver(hold: Hold, succeed: Succeed): void {
  verifies("runtime/adoption-ends", "when nobody comes in time everything ends, and the next server begins anew", async () => {
    const held = await hold({ waitMs: 100 });
    await kill(held);
    await expect.poll(() => [held.spawner, ...held.pids].filter((pid) => !isGone(pid)), SOON).toEqual([]);
    const lab = await succeed(held);
    expect(lab.runtime.adopted.size).toBe(0);
    expect(held.ids.flatMap((id) => tracesOf(lab, id))).toEqual([]);
    expect(await output(await lab.make(), "echo new")).toBe("new\n");
  });

  verifies("runtime/adoption-same", "one of another build or filter is ended with all that it holds, not taken over", async () => {
    const held = await hold();
    await kill(held);
    const lab = await succeed(held, { seccomp: Buffer.concat([labFilter(), labFilter().subarray(-8)]) });
    expect(lab.runtime.adopted.size).toBe(0);
    expect([held.spawner, ...held.pids].filter((pid) => !isGone(pid))).toEqual([]);
    expect(held.ids.flatMap((id) => tracesOf(lab, id))).toEqual([]);
    expect(await output(await lab.make(), "echo new")).toBe("new\n");
  });

  verifies(
    "runtime/adoption-ends",
    "a spawner killed with it leaves a stale socket, which is no adoption, and what it held can be cleared",
    async () => {
      const held = await hold();
      process.kill(held.spawner, "SIGKILL");
      await kill(held);
      await expect.poll(() => held.pids.filter((pid) => !isGone(pid)), SOON).toEqual([]);
      const lab = await succeed(held);
      expect(lab.runtime.adopted.size).toBe(0);
      for (const id of held.ids) await expect(lab.runtime.attach({ id })).rejects.toMatchObject({ code: "sandbox_state" });
      await lab.runtime.clear(held.ids[0] ?? "", [join(held.dir, `${held.ids[0]}.upper`)]);
      expect(existsSync(join(held.dir, `${held.ids[0]}.upper`))).toBe(false);
      expect(await output(await lab.make(), "echo new")).toBe("new\n");
    },
  );

  it("a sandbox whose guest does not answer is taken away, and a living server's are not taken", async () => {
    const held = await hold();
    await expect(succeed(held)).rejects.toMatchObject({ code: "runtime_unavailable" });
    await kill(held);
    const lab = await succeed(held);
    const [first = "", second = ""] = held.ids;
    rmSync(join(held.dir, `${first}.s`));
    await expect(lab.runtime.attach({ id: first })).rejects.toMatchObject({ code: "create_failed" });
    expect(tracesOf(lab, first)).toEqual([]);
    await lab.runtime.clear(second);
    expect(tracesOf(lab, second)).toEqual([]);
    expect(held.pids.filter((pid) => !isGone(pid))).toEqual([]);
  });
}
