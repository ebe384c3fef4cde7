// How far a kill reaches: with a v2 cgroup for each command, and without. Also time-outs, KILL_ALL, zombies, and the counters of limits.

import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { testProgram } from "./build.ts";
import { ANSWER, type Client, EXIT, FLAG, frame, REQUEST, TestGuest, u32 } from "./guest.ts";

const PROBE = testProgram("probe", [], ["-static"]);
const OUTSIDE_ROOT = 200_000;
const sh = (script: string) => ["/bin/sh", "-c", script];

/** A v2 tree as the spawner makes it, or undefined where this machine lets us have none. */
class Cgroup {
  readonly path: string;
  constructor(root: string) {
    this.path = mkdtempSync(join(root, "corral-guest-test-"));
    for (const name of ["guest", "work"]) mkdirSync(join(this.path, name));
    for (const name of ["cgroup.procs", "work", "work/cgroup.procs"]) chownSync(join(this.path, name), OUTSIDE_ROOT, OUTSIDE_ROOT);
  }
  slots(): string[] {
    return readdirSync(join(this.path, "work")).filter((name) => /^\d+$/.test(name));
  }
  async remove(): Promise<void> {
    for (const slot of this.slots()) rmdirSync(join(this.path, "work", slot));
    for (const name of ["work", "guest", ""]) rmdirSync(join(this.path, name));
  }
}

const CGROUP2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].find(
  (path) => existsSync(join(path, "cgroup.procs")) && existsSync(join(path, "cgroup.controllers")),
);

describe.each(["cgroup", "all"] as const)("trees by %s", (mode) => {
  let guest: TestGuest;
  let client: Client;
  let cgroup: Cgroup | undefined;
  beforeEach(async (context) => {
    if (mode === "cgroup" && CGROUP2 === undefined) return context.skip("no cgroup v2 tree on this machine");
    cgroup = mode === "cgroup" ? new Cgroup(CGROUP2 as string) : undefined;
    guest = new TestGuest(cgroup ? { cgroup: join(cgroup.path, "work") } : {});
    client = await guest.client();
    expect((await client.ready).get("kill")).toBe(mode);
  });
  afterEach(async () => {
    await guest?.end();
    await cgroup?.remove();
    cgroup = undefined;
  });

  /** How many processes inside have a command line that begins so. */
  async function inside(start: string): Promise<number> {
    const listed = await client.run(
      "/bin/sh",
      "-c",
      `for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done | grep -c '^${start} '`,
    );
    return Number(listed.text);
  }

  verifies("guest/kill-ladder", "STOP asks politely first, and a polite program ends by itself", async () => {
    const running = client.exec({ argv: sh("trap 'echo bye; exit 7' INT; echo up; while :; do sleep 0.05; done"), graceMs: 5000 });
    await running.until(/up/);
    running.send(REQUEST.stop);
    expect(await running.exit).toMatchObject({ code: 7, flags: 0 });
    expect(running.text).toBe("up\nbye\n");
  });

  verifies(
    "guest/kill-ladder",
    "a deaf program that has stopped itself is killed by the ladder, and its output so far is kept",
    async () => {
      const running = client.exec({ argv: [PROBE, "deaf"], timeoutMs: 50, graceMs: 20 });
      expect(await running.exit).toMatchObject({ code: -1, signal: 9, flags: EXIT.timedOut });
      expect(running.text).toBe("deaf\n");
    },
  );

  verifies("guest/time-outs", "a silent command is stopped by the no-output timeout, a talking one only by the whole one", async () => {
    const silent = client.exec({ argv: sh("echo once; sleep 1000"), idleMs: 80, graceMs: 20 });
    expect(await silent.exit).toMatchObject({ signal: 2, flags: EXIT.idle });
    const talking = client.exec({ argv: sh("while :; do echo more; sleep 0.02; done"), idleMs: 10_000, timeoutMs: 200, graceMs: 20 });
    expect(await talking.exit).toMatchObject({ flags: EXIT.timedOut });
    expect((await client.run("/bin/true")).result).toMatchObject({ code: 0, flags: 0 });
  });

  verifies("guest/whole-tree", "after the EXIT of a stopped command nothing of its tree is left, also what left its session", async () => {
    const running = client.exec({
      argv: sh(
        `${PROBE} daemon /tmp/corral-tree-${mode}; (trap '' INT TERM; sleep 1234) & while [ ! -s /tmp/corral-tree-${mode} ]; do sleep 0.01; done; echo up; sleep 1000`,
      ),
      timeoutMs: 0,
      graceMs: 50,
    });
    await running.until(/up/);
    running.send(REQUEST.stop);
    await running.exit;
    let left = -1;
    while (left !== 0) left = (await inside("sleep 1234")) + (await inside(`${PROBE} daemon`));
    await client.run("/bin/rm", "-f", `/tmp/corral-tree-${mode}`);
  });

  verifies("guest/signal-scope", "SIGNAL reaches the process group, or the whole tree", async () => {
    const group = client.exec({ argv: sh("trap 'echo got; exit 3' USR1; echo up; while :; do sleep 0.05; done") });
    await group.until(/up/);
    group.send(REQUEST.signal, u32(10, 0));
    expect((await group.exit).code).toBe(3);
    const tree = client.exec({
      argv: sh("setsid sh -c \"trap 'echo far; exit 0' USR1; echo up; while :; do sleep 0.05; done\" & trap '' USR1; wait"),
    });
    await tree.until(/up/);
    tree.send(REQUEST.signal, u32(10, 1));
    await tree.until(/far/);
    await tree.exit;
  });

  verifies("guest/beside", "stopping one command leaves another and its children alone", async () => {
    const kept = client.exec({ argv: sh("sleep 4321 & echo up; wait; echo kept-on") });
    await kept.until(/up/);
    // One whose parent has gone, and one in the session's own group.
    const stopped = client.exec({ argv: sh("(sleep 9876 &); sleep 9876 & echo up; wait") });
    await stopped.until(/up/);
    stopped.send(REQUEST.signal, u32(9, 1));
    await stopped.exit;
    let left = -1;
    while (left !== 0) left = await inside("sleep 9876");
    expect(await inside("sleep 4321")).toBe(1);
    kept.send(REQUEST.signal, u32(9, 1));
    await kept.exit;
  });

  verifies("guest/tied", "a tied command ends with its connection, another lives on", async () => {
    const other = await guest.client();
    await other.ready;
    await other.exec({ argv: ["sleep", "3333"], flags: FLAG.tied }).started;
    await other.exec({ argv: ["sleep", "4444"] }).started;
    other.close();
    let left = -1;
    while (left !== 0) left = await inside("sleep 3333");
    expect(await inside("sleep 4444")).toBe(1);
  });

  verifies("guest/kill-all", "KILL_ALL answers when every process but PID 1 is gone, and PID 1 serves on", async () => {
    const running = [1, 2, 3].map(() =>
      client.exec({
        argv: sh(`${PROBE} daemon /tmp/corral-all; setsid sleep 555 & for i in $(seq 200); do sleep 556 & done; echo up; wait`),
      }),
    );
    await Promise.all(running.map((one) => one.until(/up/)));
    let ended = 0;
    for (const one of running) void one.exit.then(() => ended++);
    client.send(frame(REQUEST.killAll, 77));
    const answer = await client.other();
    // In this order on the wire: the commands' own ends first.
    expect([answer.type, answer.id, ended]).toEqual([ANSWER.ok, 77, 3]);
    for (const one of running) expect(await one.exit).toMatchObject({ code: -1, signal: 9 });
    // PID 1 and the lister.
    expect((await client.run("/bin/ls", "/proc")).text.split("\n").filter((name) => /^\d/.test(name))).toHaveLength(2);
  });

  verifies("guest/zombies", "ten thousand zombies and orphans are reaped while commands go on", async () => {
    const running = client.exec({ argv: [PROBE, "zombies", "10000"] });
    expect((await client.run("/bin/echo", "beside")).text).toBe("beside\n");
    expect((await running.exit).code).toBe(0);
    let left = -1;
    while (left !== 0) left = Number((await client.run("/bin/sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '")).text);
  });

  verifies(
    "guest/stopped-start",
    "a program that stops every process it can does not keep PID 1 from starting and ending commands",
    async () => {
      await client.exec({ argv: [PROBE, "stopper"] }).exit;
      // These are stopped before or after their exec, all the more while they look for their program; each is answered, and time-outs work.
      const nowhere = `${Array.from({ length: 5000 }, (_, i) => `/nowhere/${i}`).join(":")}:/usr/bin`;
      const results = await Promise.all(
        [1, 2, 3, 4].map(() => client.exec({ argv: ["true"], env: [`PATH=${nowhere}`], timeoutMs: 300, graceMs: 50 }).exit),
      );
      // EAGAIN: it was stopped ten times before its exec.
      for (const result of results) expect([0, 11]).toContain(result.startErrno);
      client.send(frame(REQUEST.killAll, 5));
      expect((await client.other()).type).toBe(ANSWER.ok);
      expect((await client.run("/bin/echo", "free")).text).toBe("free\n");
    },
  );

  verifies("guest/slots-reused", "slots are reused when empty, and a daemon keeps only its own", async (context) => {
    if (!cgroup) return context.skip("only with cgroups");
    for (let i = 0; i < 50; i++) await client.run("/bin/true");
    expect(cgroup.slots()).toEqual(["0"]);
    const where = (await client.run("/bin/cat", "/proc/self/cgroup")).text;
    expect(where).toMatch(/work\/0\n/);
    await client.run("/bin/sh", "-c", "sleep 1111 & exit 0");
    for (let i = 0; i < 50; i++) await client.run("/bin/true");
    expect(cgroup.slots().sort()).toEqual(["0", "1"]);
    await client.run("/usr/bin/pkill", "-9", "-f", "sleep 1111");
    await Promise.all(Array.from({ length: 6 }, () => client.run("/bin/true")));
    expect(cgroup.slots().length).toBeLessThanOrEqual(7);
  });
});

describe("limits that were hit", () => {
  verifies("guest/limits-told", "a counter that rose while the command ran is told in its EXIT, and not in the next one's", async () => {
    const folder = mkdtempSync("/tmp/corral-count-");
    const [memory, pids] = [join(folder, "memory"), join(folder, "pids")];
    writeFileSync(memory, "low 0\nhigh 0\nmax 99\noom 3\noom_kill 4\noom_group_kill 7\n");
    writeFileSync(pids, "max 1\n");
    const guest = new TestGuest({ memory, pids });
    const client = await guest.client();
    try {
      const rise = async (file: string, text: string) => {
        const running = client.exec({ argv: ["/bin/cat"], flags: FLAG.stdin });
        await running.started;
        writeFileSync(file, text);
        running.send(REQUEST.stdinEof);
        return (await running.exit).flags;
      };
      expect(await rise(memory, "low 0\nhigh 0\nmax 120\noom 4\noom_kill 4\noom_group_kill 8\n")).toBe(0);
      expect(await rise(memory, "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")).toBe(EXIT.memoryHit);
      expect((await client.run("/bin/true")).result.flags).toBe(0);
      expect(await rise(pids, "max 2\n")).toBe(EXIT.pidsHit);
      expect((await client.run("/bin/true")).result.flags).toBe(0);
      expect(readFileSync(pids, "utf8")).toBe("max 2\n");
    } finally {
      await guest.end();
    }
  });
});
