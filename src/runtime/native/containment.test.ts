// The traps of containing a process, each met by a real sandbox: what must not be visible or possible inside, seen from inside,
// and where something must not happen outside, from there too. Negative controls leave the step out.

import { execFile } from "node:child_process";
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, type TestContext } from "vitest";
import { labFilter, locked, type NativeLab, openNativeLab, output, pidsOf, start, tracesOf } from "../../../test/fixtures/native-lab.ts";
import { verifies } from "../../../test/verifies.ts";
import type { Container, ContainerSpec } from "../runtime.ts";

const ROOT = process.geteuid?.() === 0;
const holder: { lab?: NativeLab } = {};

beforeAll(async () => {
  if (ROOT) holder.lab = await openNativeLab({ allowWeaken: true });
});
afterAll(() => holder.lab?.dispose());

function lab(context: TestContext): NativeLab {
  if (holder.lab === undefined) context.skip("as root alone; rootless.test.ts runs it without");
  return holder.lab;
}

async function sandbox(context: TestContext, changes: Partial<ContainerSpec> = {}): Promise<Container> {
  const container = await lab(context).make(changes);
  onTestFinished(() => container.destroy());
  return container;
}

describe("re-execution", () => {
  verifies("runtime/re-exec", "nothing of the spawner shows inside: command line, environment, memory, program", async (context) => {
    const container = await sandbox(context, { root: true });
    const look = "tr '\\0' ' ' < /proc/1/cmdline; echo; cat /proc/1/comm; ls -ld /proc/*/exe 2>&1 | head -3";
    const seen = await output(container, look);
    expect(seen.split("\n")[0]).toBe("corral-guest init ");
    expect(seen).not.toContain("spawner");
    const [pid] = (await pidsOf(container)).sort((a, b) => a - b);
    // From outside, where nothing stops us: no page of PID 1 holds what the spawner was told of its cgroups.
    const maps = readFileSync(`/proc/${pid}/maps`, "latin1");
    expect(maps).toContain("/memfd:corral-guest");
    expect(maps).not.toContain(process.cwd());
    expect(readFileSync(`/proc/${pid}/environ`, "latin1")).toBe("");
  });

  it("is what hides them: without it the spawner's command line stands there", async (context) => {
    const container = await sandbox(context, { weaken: [16, 17], root: true });
    expect(await output(container, "tr '\\0' ' ' < /proc/1/cmdline")).toContain("spawner --fd 3");
  });

  it("leaves a program that nobody can write, not even uid 0 inside", async (context) => {
    const container = await sandbox(context, { weaken: [17, 22], root: true });
    expect((await start(container, "exec 3>/proc/1/exe", { root: true }).ended).exit.code).not.toBe(0);
  });
});

describe("the tree", () => {
  verifies("runtime/mountinfo-neutral", "mount tables name no path of the node and do not count sandboxes", async (context) => {
    const first = await sandbox(context);
    const table = (text: string): string =>
      text
        .split("\n")
        .filter((line) => line.includes(" - overlay "))
        .map((line) => line.split(" - ")[1])
        .join("\n");
    const before = await output(first, "cat /proc/self/mountinfo");
    expect(before).not.toContain(lab(context).dir);
    expect(before).not.toMatch(/upperdir=\//);
    await sandbox(context);
    const third = await sandbox(context);
    expect(table(await output(third, "cat /proc/self/mountinfo"))).toBe(table(before));
  });

  it("cannot be mounted over, remounted or left by uid 0 inside", async (context) => {
    const container = await sandbox(context, { root: true });
    for (const attempt of [
      "mount -t tmpfs x /tmp",
      "mount -o remount,rw /usr",
      "umount /proc/keys",
      "umount -l /proc",
      "chroot / true",
      "unshare -m true",
      "nsenter -t 1 -m true",
    ]) {
      expect({ attempt, code: (await start(container, attempt, { root: true }).ended).exit.code }).not.toEqual({ attempt, code: 0 });
    }
  });

  verifies("runtime/idmapped-base", "a base is the user's own inside without a change to it, and nobody's else", async (context) => {
    const { dir, runtime } = lab(context);
    const base = join(dir, "base");
    mkdirSync(base);
    writeFileSync(join(base, "mine"), "old\n");
    writeFileSync(join(base, "other"), "theirs\n");
    for (const path of [base, join(base, "mine")]) chownSync(path, 12_345, 12_346);
    chownSync(join(base, "other"), 12_399, 12_399);
    const user = runtime.ids.base + runtime.ids.uid;
    const spec = lab(context).spec();
    const mounts = spec.mounts.map((mount) =>
      mount.kind === "overlay" && mount.target === "/workspace"
        ? { ...mount, lowers: [base], idmap: { fromUid: 12_345, fromGid: 12_346, toUid: user, toGid: user } }
        : mount,
    );
    const container = await runtime.create({ ...spec, mounts });
    onTestFinished(() => container.destroy());
    expect(await output(container, "stat -c '%u %g %n' /workspace/mine /workspace/other")).toBe(
      "1000 1000 /workspace/mine\n65534 65534 /workspace/other\n",
    );
    expect(await output(container, "echo new >> /workspace/mine && cat /workspace/mine")).toBe("old\nnew\n");
    expect((await start(container, "echo new >> /workspace/other").ended).exit.code).not.toBe(0);
    expect(readFileSync(join(base, "mine"), "latin1")).toBe("old\n");
    expect(await output(container, "cat /proc/self/mountinfo")).not.toContain(base);
  });

  verifies("runtime/device-nodes-own", "locks and events on device nodes do not cross sandboxes", async (context) => {
    const [first, second] = [await sandbox(context), await sandbox(context)];
    const holding = start(first, "exec 9</dev/null; flock -n 9 && echo locked && sleep 60");
    await holding.spoke;
    expect(await output(second, "exec 9</dev/null; flock -n 9 && echo free")).toBe("free\n");
    expect((await start(first, "exec 9</dev/null; flock -n 9").ended).exit.code).toBe(1);
    holding.process.signal(9, true);
  });
});

describe("limits and signals", () => {
  it("sits in cgroups of its own, with swap no way out, before its first instruction", async (context) => {
    const container = await sandbox(context, { limits: { memoryBytes: 64 * 1024 * 1024, cpus: 0.5, pids: 20, openFiles: 64 } });
    const [pid] = (await pidsOf(container)).sort((a, b) => a - b);
    const lines = readFileSync(`/proc/${pid}/cgroup`, "latin1").trim().split("\n");
    const of = (name: string): string | undefined => lines.find((line) => line.split(":")[1]?.split(",").includes(name))?.split(":")[2];
    const limited = ["memory", "pids", "cpu"].map(of).filter((path) => path !== undefined);
    for (const path of limited) expect(path).toContain(`/${container.id}`);
    expect(await output(container, "ulimit -n")).toBe("64\n");
    const own = await output(container, "cat /proc/self/cgroup");
    expect(own).not.toContain(container.id);
  });

  it("has no fresh second for a fork bomb when the counter is left out: the step is what holds", async (context) => {
    const held = await sandbox(context, { limits: { memoryBytes: 256 * 1024 * 1024, cpus: 2, pids: 10, openFiles: 64 } });
    const many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 5 & done; echo all";
    expect((await start(held, many).ended).stdout).not.toBe("all\n");
    const free = await sandbox(context, { limits: { memoryBytes: 256 * 1024 * 1024, cpus: 2, pids: 200, openFiles: 64 } });
    expect((await start(free, many).ended).stdout).toBe("all\n");
  });

  it("is not in the server's session or process group, so a Ctrl-C there is not felt here", async (context) => {
    const container = await sandbox(context);
    const [pid] = (await pidsOf(container)).sort((a, b) => a - b);
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const [, , group, session] = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    expect([group, session]).toEqual([pid, pid]);
  });
});

describe("the network", () => {
  it("is the sandbox's own, configured by nobody inside", async (context) => {
    const container = await sandbox(context, { root: true });
    expect(await output(container, "readlink /proc/self/ns/net")).not.toBe(`${readlinkSync("/proc/self/ns/net")}\n`);
    expect((await start(container, "ip link set lo down", { root: true }).ended).exit.code).not.toBe(0);
    const first = await output(container, "readlink /proc/self/ns/net");
    expect(await output(await sandbox(context), "readlink /proc/self/ns/net")).not.toBe(first);
  });

  it("is the node's when the step is left out", async (context) => {
    const container = await sandbox(context, { weaken: [6] });
    expect(await output(container, "readlink /proc/self/ns/net")).toBe(`${readlinkSync("/proc/self/ns/net")}\n`);
    expect(await output(await sandbox(context), "readlink /proc/self/ns/net")).not.toBe(`${readlinkSync("/proc/self/ns/net")}\n`);
  });
});

describe("steps that can be left out", () => {
  it("are refused by a spawner that was not started for tests", async (context) => {
    lab(context);
    const strict = await openNativeLab();
    onTestFinished(() => strict.dispose());
    await expect(strict.make({ weaken: [12] })).rejects.toThrow(/allow-weaken/);
  });

  it("are named by the container", async (context) => {
    expect((await sandbox(context, { weaken: [12, 20] })).weakenings).toEqual(
      expect.arrayContaining(["step-12-left-out", "step-20-left-out"]),
    );
  });

  it("make the difference: masks", async (context) => {
    expect(await output(await sandbox(context), "cat /proc/kallsyms /proc/loadavg")).toBe("lab loadavg\n");
    expect(await output(await sandbox(context, { weaken: [12] }), "head -c 100 /proc/kallsyms")).not.toBe("");
  });

  it("make the difference: descriptors", async (context) => {
    const open = async (container: Container): Promise<string[]> => {
      const [pid] = (await pidsOf(container)).sort((a, b) => a - b);
      return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    };
    expect(await open(await sandbox(context))).not.toContain("/proc");
    expect(await open(await sandbox(context, { weaken: [15] }))).toContain("/proc");
  });

  it("make the difference: namespaces", async (context) => {
    expect(await output(await sandbox(context, { weaken: [7] }), "readlink /proc/self/ns/uts")).toBe(
      `${readlinkSync("/proc/self/ns/uts")}\n`,
    );
  });
});

describe("the end", () => {
  verifies("runtime/journal-lock", "the journal is locked from before the first kernel object until after the last", async (context) => {
    const spec = lab(context).spec();
    const container = await lab(context).runtime.create(spec);
    expect(locked(spec.journalFile)).toBe(true);
    const again = { ...lab(context).spec(), journalFile: spec.journalFile };
    await expect(lab(context).runtime.create(again)).rejects.toThrow(/another spawner holds its lock/);
    expect(tracesOf(lab(context), again.id)).toEqual([]);
    await container.destroy();
    expect(locked(spec.journalFile)).toBe(false);
  });

  verifies("runtime/scrub", "destroy removes the trees it is given, large ones too, and nothing that they link to", async (context) => {
    const container = await sandbox(context);
    const { dir } = lab(context);
    const kept = join(dir, "kept");
    mkdirSync(kept);
    writeFileSync(join(kept, "file"), "x");
    const small = join(dir, `${container.id}.upper`);
    const large = join(dir, "large");
    mkdirSync(large);
    for (let n = 0; n < 500; n++) writeFileSync(join(large, `f${n}`), "");
    await promisify(execFile)("ln", ["-s", kept, join(large, "link")]);
    await output(container, "mkdir -p /workspace/a/b && ln -s /usr /workspace/a/usr && echo x > /workspace/a/b/c");
    await container.destroy([small, large, join(dir, `${container.id}.work`)]);
    expect(readdirSync(dir).filter((name) => name.startsWith(`${container.id}.`) && !name.endsWith(".journal"))).toEqual([]);
    expect(existsSync(large)).toBe(false);
    expect(readFileSync(join(kept, "file"), "latin1")).toBe("x");
  });

  it("answers many destroys at once, each after its sandbox is gone", async (context) => {
    const containers = await Promise.all(Array.from({ length: 8 }, () => lab(context).make()));
    await Promise.all(containers.map((container) => container.destroy()));
    expect(containers.flatMap(({ id }) => tracesOf(lab(context), id))).toEqual([]);
  });

  it("comes with a filter that is the whole of it", () => {
    expect(labFilter().length % 8).toBe(0);
  });
});
