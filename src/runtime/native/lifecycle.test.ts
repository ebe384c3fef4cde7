// What must be left when something fails or is killed: nothing. Looks from outside: processes, cgroups, sockets, locks, descriptors.

import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished, type TestContext } from "vitest";
import { isGone, locked, type NativeLab, openNativeLab, output, pidsOf, start, tracesOf } from "../../../test/fixtures/native-lab.ts";
import { verifies } from "../../../test/verifies.ts";
import { findCgroups, parseMounts } from "./cgroups.ts";

/** The kernel ends killed processes, and empties their cgroups, a moment after the call that kills them. */
const SOON = { interval: 10 };

function rootOnly(context: TestContext): void {
  if (process.geteuid?.() !== 0) context.skip("as root alone; rootless.test.ts runs it without");
}

async function openLab(failStep?: number): Promise<NativeLab> {
  const lab = await openNativeLab(failStep === undefined ? {} : { allowWeaken: true, failStep });
  onTestFinished(() => lab.dispose());
  return lab;
}

function children(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "latin1")
      .trim()
      .split(" ")
      .filter((text) => text !== "")
      .map(Number),
  );
}

/** The spawners of this process. */
function spawners(): number[] {
  return children(process.pid).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("spawner"));
}

describe("a create that fails", () => {
  const steps = [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
  for (const step of steps) {
    verifies("runtime/failed-create-leaves-nothing", `leaves nothing behind when step ${step} fails, and names it`, async (context) => {
      rootOnly(context);
      const before = spawners();
      const lab = await openLab(step);
      const [spawner = 0] = spawners().filter((pid) => !before.includes(pid));
      const spec = lab.spec();
      const descriptors = (): number => readdirSync(`/proc/${spawner}/fd`).length;
      // What the node mounts meanwhile arrives there too; what is there alone was left by us.
      const targets = (pid: number | string): string[] =>
        readFileSync(`/proc/${pid}/mountinfo`, "latin1")
          .trim()
          .split("\n")
          .map((line) => line.split(" ")[4] ?? "");
      const mounts = (): string[] => {
        const own = targets(spawner);
        const nodes = new Set(targets("self"));
        return own.filter((target) => !nodes.has(target));
      };
      const had = descriptors();
      // Twice: what the first try kept for good (a namespace made ahead) is no leak, what each adds is one.
      for (const run of ["first", "second"]) {
        await expect(lab.runtime.create(spec), run).rejects.toThrow(new RegExp(`step ${step}\\b`));
        expect(tracesOf(lab, spec.id)).toEqual([]);
        expect(children(spawner)).toEqual([]);
        expect(locked(spec.journalFile)).toBe(false);
        expect(descriptors()).toBe(had);
        await expect.poll(mounts, SOON).toEqual([]);
      }
    });
  }

  it("because its journal is missing, a path is, or a layer is, leaves nothing behind", async (context) => {
    rootOnly(context);
    const lab = await openLab();
    const spec = lab.spec();
    const broken = [
      { ...spec, journalFile: join(lab.dir, "no-journal") },
      {
        ...spec,
        mounts: spec.mounts.map((mount) =>
          mount.kind === "overlay" && mount.target === "/workspace" ? { ...mount, lowers: ["/no/such/layer"] } : mount,
        ),
      },
      { ...spec, mounts: [...spec.mounts, { kind: "file" as const, target: "/etc/absent", mode: 0o444, content: "" }] },
      { ...spec, mounts: [...spec.mounts, { kind: "tmpfs" as const, target: "/absent", sizeBytes: 1, inodes: 1, mode: 0, own: false }] },
    ];
    for (const bad of broken) {
      await expect(lab.runtime.create(bad)).rejects.toMatchObject({ code: "create_failed" });
      expect(tracesOf(lab, spec.id)).toEqual([]);
    }
    const container = await lab.runtime.create(spec);
    expect(await output(container, "echo fine")).toBe("fine\n");
    await container.destroy();
  });

  verifies(
    "runtime/overloaded-told",
    "because the spawner is out of descriptors, is told as overload and leaves nothing behind, at whichever call it happens",
    async (context) => {
      rootOnly(context);
      const before = spawners();
      const lab = await openLab();
      const [spawner = 0] = spawners().filter((pid) => !before.includes(pid));
      const held = await lab.make();
      const limit = (files: number): void => void execFileSync("prlimit", ["--pid", String(spawner), `--nofile=${files}:20000`]);
      const had = readdirSync(`/proc/${spawner}/fd`).length;
      const highest = Math.max(...readdirSync(`/proc/${spawner}/fd`).map(Number));
      // One descriptor more each time: every call of create that needs one fails once.
      let made = 0;
      for (let more = 1; more < 60 && made === 0; more++) {
        limit(highest + more);
        const spec = lab.spec();
        const outcome = await lab.runtime.create(spec).then(
          (container) => container,
          (error: unknown) => error as { code?: string },
        );
        if ("destroy" in outcome) {
          made += 1;
          await outcome.destroy();
          continue;
        }
        expect(outcome).toMatchObject({ code: "overloaded" });
        expect(tracesOf(lab, spec.id)).toEqual([]);
        expect(readdirSync(`/proc/${spawner}/fd`).length).toBe(had);
      }
      expect(made).toBe(1);
      limit(20_000);
      expect(await output(held, "echo still here")).toBe("still here\n");
      await held.destroy();
    },
  );

  it("because a layer is a link into /proc, is refused", async (context) => {
    rootOnly(context);
    const lab = await openLab();
    const spec = lab.spec();
    const mounts = spec.mounts.map((mount) =>
      mount.kind === "overlay" && mount.target === "/workspace" ? { ...mount, lowers: ["/proc/1/root", join(lab.dir, "empty")] } : mount,
    );
    await expect(lab.runtime.create({ ...spec, mounts })).rejects.toThrow(/step 4/);
  });
});

verifies(
  "runtime/spawner-killed",
  "a spawner that is killed takes every sandbox with it, nothing is left, and the next create works",
  async (context) => {
    rootOnly(context);
    const before = spawners();
    const lab = await openLab();
    const [spawner = 0] = spawners().filter((pid) => !before.includes(pid));
    const containers = await Promise.all([lab.make(), lab.make()]);
    const commands = containers.map((container) => start(container, "setsid sleep 300 & echo up; sleep 300"));
    await Promise.all(commands.map(({ spoke }) => spoke));
    const pids = (await Promise.all(containers.map(pidsOf))).flat();
    expect(pids.length).toBeGreaterThanOrEqual(6);
    process.kill(spawner, "SIGKILL");
    for (const [index, container] of containers.entries()) {
      expect(await container.lost).toMatch(/spawner ended|PID 1 ended/);
      await expect(commands[index]?.ended).rejects.toThrow(/lost/);
    }
    await Promise.all(containers.map((container) => container.destroy()));
    await expect.poll(() => pids.filter((pid) => !isGone(pid)), SOON).toEqual([]);
    expect(containers.flatMap(({ id }) => tracesOf(lab, id))).toEqual([]);
    const next = await lab.make();
    expect(await output(next, "echo again")).toBe("again\n");
    await next.destroy();
  },
);

interface Held {
  readonly dir: string;
  readonly ids: readonly string[];
  readonly pids: readonly number[];
  readonly spawner: number;
}

async function holder(): Promise<{ child: ChildProcess; held: Held }> {
  const script = join(import.meta.dirname, "../../../test/fixtures/native-holder.ts");
  const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
  if (child.stdout === null) throw new Error("the holder has no stdout");
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const held = JSON.parse(line) as Held;
  onTestFinished(() => rmSync(held.dir, { recursive: true, force: true }));
  return { child, held };
}

function cgroupsOf(ids: readonly string[]): string[] {
  const tops = parseMounts(readFileSync("/proc/self/mountinfo", "latin1")).map(({ path }) => join(path, "corral"));
  return tops
    .flatMap((top) => (existsSync(top) ? readdirSync(top).flatMap((name) => ids.map((id) => join(top, name, id))) : []))
    .filter((path) => existsSync(path));
}

verifies("runtime/server-killed", "a local run that is killed leaves no sandbox: its spawner ends and cleans them all", async (context) => {
  rootOnly(context);
  const { child, held } = await holder();
  expect(cgroupsOf(held.ids)).not.toEqual([]);
  child.kill("SIGKILL");
  await expect.poll(() => [held.spawner, ...held.pids].filter((pid) => !isGone(pid)), SOON).toEqual([]);
  expect(cgroupsOf(held.ids)).toEqual([]);
  expect(readdirSync(held.dir).filter((name) => name.endsWith(".s"))).toEqual([]);
});

verifies(
  "runtime/both-killed",
  "server and spawner killed at once leave no process, and their cgroups go at the next start",
  async (context) => {
    rootOnly(context);
    const { child, held } = await holder();
    process.kill(held.spawner, "SIGKILL");
    child.kill("SIGKILL");
    await expect.poll(() => held.pids.filter((pid) => !isGone(pid)), SOON).toEqual([]);
    await expect
      .poll(async () => {
        await findCgroups(true).remove();
        return cgroupsOf(held.ids);
      }, SOON)
      .toEqual([]);
  },
);

it("closing the runtime ends what runs in it", async (context) => {
  rootOnly(context);
  const lab = await openNativeLab();
  const container = await lab.make();
  const late = lab.spec();
  const command = start(container, "echo up; sleep 300");
  await command.spoke;
  const pids = await pidsOf(container);
  await lab.dispose();
  await expect(command.ended).rejects.toThrow(/lost/);
  expect(pids.filter((pid) => !isGone(pid))).toEqual([]);
  await container.destroy();
  await expect(lab.runtime.create(late)).rejects.toThrow(/closed/);
});

describe("a machine that lacks something", () => {
  it("is told that the guest program is not built", async () => {
    await expect(openNativeLab({ guestBinary: "/no/such/corral-guest" })).rejects.toMatchObject({ code: "guest_missing" });
  });

  verifies("runtime/unavailable-mends", "a root that may make no mount namespace is refused with what helps", async (context) => {
    rootOnly(context);
    const script = join(import.meta.dirname, "../../../test/fixtures/native-weak-root.ts");
    const { stdout } = await promisify(execFile)("setpriv", ["--bounding-set=-sys_admin", "--inh-caps=-all", process.execPath, script]);
    expect(JSON.parse(stdout)).toMatchObject({ available: false, reason: expect.stringMatching(/CAP_SYS_ADMIN/) as unknown });
  });
});

describe("a machine without a cgroup2 tree", () => {
  const trees = parseMounts(readFileSync("/proc/self/mountinfo", "latin1"));
  verifies("runtime/freeze", "freezes by the v1 freezer, and destroys what is frozen", async (context) => {
    rootOnly(context);
    const unified = trees.find(({ type }) => type === "cgroup2");
    if (!trees.some(({ controllers }) => controllers.includes("freezer"))) context.skip("this machine has no v1 freezer");
    const cover = unified === undefined ? "" : `umount ${unified.path}; `;
    const script = join(import.meta.dirname, "../../../test/fixtures/native-v1.ts");
    const argv = ["-m", "--propagation", "private", "sh", "-ec", `${cover}exec "$@"`, "sh", process.execPath, script];
    const { stdout } = await promisify(execFile)("unshare", argv);
    expect(JSON.parse(stdout)).toEqual({ cgroup: "v1", freezer: "v1", early: "still", later: "later\n", traces: [] });
  });
});
