// What every runtime must do, whatever makes its walls: run by src/runtime/native and src/runtime/bwrap, each with its own `open`.
// Real sandboxes from the host template; questions that a shell cannot ask go through test/fixtures/runtime/peek.c.
// Invariant: a test asks inside and, where something must not happen outside, looks outside too.

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, type TestContext } from "vitest";
import { verifies } from "../verifies.ts";
import { egress } from "./egress.ts";
import { lives } from "./runtime-lives.ts";
import { hostPid, type Lab, labFor, MIB, type OpenRuntime, others, output, readText, run, start } from "./runtime-lab.ts";

const [ENOENT, EACCES, ENETUNREACH, ECONNREFUSED] = [2, 13, 101, 111];
const SIGKILL = 9;
/** Bytes that may be under way to a reader that takes none (STREAM_WINDOW_BYTES), and what sockets and pipes hold. */
const STALLED_BYTES = 2 * MIB;
/** The kernel ends killed processes after the call that kills them. */
const SOON = { interval: 20 };

/** `missing`: what this machine lacks for the runtime; each test skips with it. */
export function runtimeSuite(name: string, open: OpenRuntime, missing?: string): void {
  describe(`the ${name} runtime`, () => {
    const lab = labFor(open, missing);
    commands(lab);
    streams(lab);
    ends(lab);
    limits(lab);
    walls(lab);
    lives(lab);
    egress(lab);
  });
}

function commands(lab: () => Lab): void {
  verifies("runtime/exec-result", "tells a program's exit status, the signal that ended it, and why it could not start", async () => {
    const container = await lab().make();
    expect((await run(container, ["true"])).exit).toMatchObject({ code: 0, signal: 0, startErrno: 0 });
    expect((await run(container, "exit 42")).exit).toMatchObject({ code: 42, signal: 0 });
    expect((await run(container, "kill -KILL $$")).exit).toMatchObject({ code: -1, signal: SIGKILL });
    expect((await run(container, ["no-such-program"])).exit).toMatchObject({ code: -1, startErrno: ENOENT });
    expect((await run(container, ["/etc/passwd"])).exit).toMatchObject({ code: -1, startErrno: EACCES });
    expect((await run(container, ["true"], { cwd: "/no/such/place" })).exit).toMatchObject({ code: -1, startErrno: ENOENT });
  });

  verifies(
    "runtime/clean-environment",
    "gives a command its arguments, directory and environment, and nothing of the server's",
    async () => {
      process.env["CORRAL_MARKER"] = "seen";
      onTestFinished(() => {
        delete process.env["CORRAL_MARKER"];
      });
      const container = await lab().make();
      const odd = ["a b", "$HOME", "", "'\"", "é\n-rf"];
      expect(await output(container, ["printf", "%s|", ...odd])).toBe(odd.map((word) => `${word}|`).join(""));
      expect(await output(container, "pwd", { cwd: "/tmp" })).toBe("/tmp\n");
      const names = (await output(container, ["env"], { env: { EXTRA: "1" } }))
        .trim()
        .split("\n")
        .map((line) => line.split("=")[0]);
      expect(names.sort()).toEqual(
        ["EXTRA", "HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "USER"].filter(
          (name) => names.includes("PWD") || name !== "PWD",
        ),
      );
    },
  );

  it("runs many commands at once without mixing their output", async () => {
    const container = await lab().make();
    const results = await Promise.all(
      Array.from({ length: 24 }, (_, n) => output(container, `for i in 1 2 3 4 5 6 7 8 9; do echo ${n}; done`)),
    );
    expect(results).toEqual(Array.from({ length: 24 }, (_, n) => `${n}\n`.repeat(9)));
  });

  verifies("runtime/command-walls", "starts a command with three descriptors, no capability, no new privileges and a filter", async () => {
    const container = await lab().make();
    expect((await output(container, "ls /proc/$$/fd")).trim().split("\n").sort()).toEqual(["0", "1", "2"]);
    const status = await output(container, ["cat", "/proc/self/status"]);
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) expect(status).toMatch(new RegExp(`^${set}:\t0{16}$`, "m"));
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(status).toMatch(/^Groups:\t ?$/m);
    const { uid, gid } = lab().runtime.ids;
    expect(await output(container, "id -u; id -g")).toBe(`${uid}\n${gid}\n`);
  });
}

function streams(lab: () => Lab): void {
  verifies("runtime/binary-safe", "passes any bytes through stdin and stdout unchanged", async () => {
    const container = await lab().make();
    const bytes = Buffer.concat([Buffer.from(Array.from({ length: 256 }, (_, n) => n)), randomBytes(5 * MIB)]);
    const { exit, stdout } = await run(container, ["cat"], { input: bytes });
    expect(exit.code).toBe(0);
    expect(stdout.equals(bytes)).toBe(true);
  });

  it("keeps stdout and stderr apart and gives an empty stdin when none was asked for", async () => {
    const container = await lab().make();
    const { stdout, stderr } = await run(container, "cat; echo out; echo err >&2");
    expect([stdout.toString(), stderr.toString()]).toEqual(["out\n", "err\n"]);
  });

  it("gives a terminal its size, and tells the program when it changes", async () => {
    const container = await lab().make();
    const shell = start(container, "trap 'stty size; exit 3' WINCH; tty; stty size; echo ready; while :; do sleep 0.05; done", {
      pty: { rows: 24, cols: 80 },
    });
    await shell.said("ready");
    shell.process.resize(40, 132);
    const { exit, stdout } = await shell.ended;
    expect(stdout.toString().replaceAll("\r", "")).toBe("/dev/pts/0\n24 80\nready\n40 132\n");
    expect(exit.code).toBe(3);
  });

  it("cuts output at the cap, says so, and lets the program end", async () => {
    const container = await lab().make();
    const { exit, stdout } = await run(container, "head -c 3000000 /dev/zero; exit 5", { outputBytes: 1000 });
    expect(stdout.length).toBe(1000);
    expect(exit).toMatchObject({ code: 5, truncated: true });
  });

  verifies("runtime/stalled-reader", "stops a program whose reader stalls, in bounded memory, and others go on", async () => {
    const container = await lab().make();
    const pid = await hostPid(container);
    let got = 0;
    const first = Promise.withResolvers<void>();
    const { process: stalled, ended } = start(container, ["yes"], {
      onOutput: (_, chunk) => {
        got += chunk.length;
        first.resolve();
        return false;
      },
    });
    await first.promise;
    expect(await output(container, "echo lively")).toBe("lively\n");
    const memory = Number(/^VmRSS:\s+(\d+)/m.exec(readText(`/proc/${pid}/status`))?.[1] ?? "0");
    expect(memory).toBeLessThan(8 * 1024);
    expect(got).toBeLessThanOrEqual(STALLED_BYTES);
    stalled.signal(SIGKILL);
    stalled.credit(got);
    expect((await ended).exit.signal).toBe(SIGKILL);
    expect(got).toBeLessThanOrEqual(2 * STALLED_BYTES);
  });
}

function ends(lab: () => Lab): void {
  verifies("runtime/timeout-partial", "ends a command at its time-out, with the output so far", async () => {
    const container = await lab().make();
    const { exit, stdout } = await run(container, "echo partial; sleep 60", { timeoutMs: 300 });
    expect(stdout.toString()).toBe("partial\n");
    expect(exit).toMatchObject({ timedOut: true, code: -1 });
  });

  verifies("runtime/kill-ladder", "asks politely first, and kills what does not listen", async () => {
    const container = await lab().make();
    const polite = await run(container, "trap 'echo bye; exit 9' INT; while :; do sleep 0.05; done", { timeoutMs: 300, graceMs: 5_000 });
    expect(polite.exit).toMatchObject({ timedOut: true, code: 9 });
    expect(polite.stdout.toString()).toBe("bye\n");
    const deaf = await run(container, ["/workspace/peek", "deaf"], { timeoutMs: 300, graceMs: 100 });
    expect(deaf.exit).toMatchObject({ timedOut: true, signal: SIGKILL });
  });

  it("ends a command that writes nothing for its idle time-out, and not one that does", async () => {
    const container = await lab().make();
    expect((await run(container, "echo a; sleep 60", { idleTimeoutMs: 400 })).exit).toMatchObject({ idle: true });
    expect((await run(container, "for i in 1 2 3 4 5 6; do echo a; sleep 0.1; done", { idleTimeoutMs: 5_000 })).exit).toMatchObject({
      idle: false,
      code: 0,
    });
  });

  verifies("runtime/tree-kill", "reaches what left the session and lost its parent, when the command is stopped", async () => {
    const container = await lab().make();
    const tree = start(container, "/workspace/peek daemon; setsid sleep 300 & echo up; wait; sleep 300");
    await tree.said("up");
    expect((await others(container)).length).toBeGreaterThanOrEqual(2);
    tree.process.stop();
    await tree.ended;
    await expect.poll(() => others(container), SOON).toEqual([]);
  });

  it("delivers a signal to the command's group", async () => {
    const container = await lab().make();
    const shell = start(container, "trap 'echo usr1; exit 4' USR1; echo ready; while :; do sleep 0.05; done");
    await shell.said("ready");
    shell.process.signal(10);
    const { exit, stdout } = await shell.ended;
    expect([exit.code, stdout.toString()]).toEqual([4, "ready\nusr1\n"]);
  });
}

function limits(lab: () => Lab): void {
  verifies("runtime/fork-bomb", "contains a fork bomb, says so, and runs the next command", async () => {
    const container = await lab().make({ limits: { memoryBytes: 256 * MIB, cpus: null, pids: 48, openFiles: 256 } });
    const before = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).length;
    const { exit } = await run(container, ["/workspace/peek", "bomb"], { timeoutMs: 1_000, graceMs: 100 });
    const counted = !lab().runtime.probe.weakenings.includes("pids-by-rlimit"); // which counts no hits
    expect(exit).toMatchObject({ timedOut: true, pidsHit: counted });
    expect(readdirSync("/proc").filter((name) => /^\d+$/.test(name)).length).toBeLessThan(before + 200);
    expect(await output(container, "echo fine")).toBe("fine\n");
    await expect.poll(() => others(container), SOON).toEqual([]);
  });

  verifies(
    "runtime/memory-limit",
    "ends a command that takes more memory than allowed, and keeps the sandbox",
    async (context: TestContext) => {
      if (lab().runtime.probe.weakenings.includes("memory-not-limited")) return context.skip("this machine gives us no memory controller");
      const container = await lab().make({ limits: { memoryBytes: 96 * MIB, cpus: null, pids: 64, openFiles: 256 } });
      expect((await run(container, ["/workspace/peek", "touch", "400"])).exit).toMatchObject({ signal: SIGKILL, memoryHit: true });
      expect(await output(container, ["/workspace/peek", "touch", "16"])).toBe("ok\n");
    },
  );

  verifies("runtime/tmpfs-fill", "lets the next command run after its folders in memory were filled", async () => {
    const container = await lab().make({ limits: { memoryBytes: 96 * MIB, cpus: null, pids: 64, openFiles: 256 } });
    const fill = "for d in /tmp /dev/shm /run $HOME; do cat /dev/zero > $d/full; done 2>&1; df -P /tmp | tail -n 1";
    const { exit, stdout } = await run(container, fill);
    expect(exit.code).toBe(0);
    expect(stdout.toString()).toMatch(/No space left on device[\s\S]* 100% /);
    expect(await output(container, ["/workspace/peek", "touch", "4"])).toBe("ok\n");
  });

  it("holds the number of open files", async () => {
    const container = await lab().make({ limits: { memoryBytes: 256 * MIB, cpus: null, pids: 64, openFiles: 64 } });
    expect(await output(container, "ulimit -Hn")).toBe("64\n");
    expect((await run(container, "ulimit -n 65")).exit.code).not.toBe(0);
  });
}

function walls(lab: () => Lab): void {
  verifies("runtime/network-none", "has no network but its own loopback", async () => {
    const container = await lab().make();
    for (const address of ["192.0.2.1", "10.0.0.1", "169.254.169.254"]) {
      expect(await output(container, ["/workspace/peek", "inet", address, "80"])).toBe(`errno ${ENETUNREACH}\n`);
    }
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as { port: number };
    expect(await output(container, ["/workspace/peek", "inet", "127.0.0.1", String(port)])).toBe(`errno ${ECONNREFUSED}\n`);
    // The control: the same listener answers outside.
    await new Promise<void>((resolve, reject) => connect(port, "127.0.0.1", resolve).on("error", reject).unref());
  });

  verifies("runtime/own-abstract-sockets", "shares no abstract socket with the node or another sandbox", async () => {
    const [first, second] = [await lab().make(), await lab().make()];
    const name = `corral-${randomBytes(6).toString("hex")}`;
    const listener = start(first, ["/workspace/peek", "listen", name]);
    await listener.said("listening");
    expect(await output(first, ["/workspace/peek", "abstract", name])).toBe("ok\n");
    expect(await output(second, ["/workspace/peek", "abstract", name])).toBe(`errno ${ECONNREFUSED}\n`);
    expect(execFileSync(join(lab().dir, "tools/peek"), ["abstract", name], { encoding: "utf8" })).toBe(`errno ${ECONNREFUSED}\n`);
    listener.process.signal(SIGKILL);
    await listener.ended;
  });

  verifies("runtime/no-host-tree", "shows nothing of the node's tree, not above the root either", async () => {
    const marker = join(lab().dir, "marker");
    writeFileSync(marker, "host");
    const container = await lab().make();
    expect(
      (await run(container, `cat /..${marker} ${marker} /proc/1/root${marker} /proc/self/cwd/../../..${marker}`)).stdout.toString(),
    ).toBe("");
    expect(await output(container, "ls -id / | cut -d/ -f1")).toBe(await output(container, "ls -id /.. | cut -d/ -f1"));
    const mounts = await output(container, ["cat", "/proc/self/mountinfo"]);
    expect(mounts).not.toContain(lab().dir);
    const kinds = mounts
      .trim()
      .split("\n")
      .map((line) => line.split(" - ")[1]?.split(" ")[0]);
    expect(
      [...new Set(kinds)].filter(
        (kind) => !["overlay", "tmpfs", "proc", "devpts", "ext4", "xfs", "btrfs", "devtmpfs"].includes(kind ?? ""),
      ),
    ).toEqual([]);
    expect(await output(container, "ls -d /sys /boot /mnt /srv 2>/dev/null; true")).toBe("");
  });

  it("sees its own processes, name and identity alone", async () => {
    const container = await lab().make();
    expect(await output(container, "cat /proc/1/comm")).toMatch(/corral|init/);
    expect(await others(container)).toEqual([]);
    expect(await output(container, "hostname; cat /etc/hostname")).toBe("corral\ncorral\n");
    const ids = [
      await output(container, "cat /etc/machine-id"),
      await output(await lab().make(), "cat /etc/machine-id"),
      readText("/etc/machine-id"),
    ];
    expect(new Set(ids).size).toBe(3);
    // A command sits in a cgroup of its own below the sandbox's, which is the root of what it sees.
    expect(
      (await output(container, "cat /proc/self/cgroup"))
        .trim()
        .split("\n")
        .filter((line) => !/:\/(work\/\d+)?$/.test(line)),
    ).toEqual([]);
    for (const space of ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"]) {
      expect(await output(container, `readlink /proc/self/ns/${space}`)).not.toBe(`${readlinkSync(`/proc/self/ns/${space}`)}\n`);
    }
  });

  verifies("runtime/proc-covered", "covers what /proc would tell of the node", async () => {
    const container = await lab().make();
    for (const name of ["keys", "kallsyms", "iomem", "interrupts", "vmstat", "diskstats", "cmdline", "locks"]) {
      if (!existsSync(`/proc/${name}`)) continue;
      expect({ name, text: await output(container, `cat /proc/${name} 2>/dev/null; true`) }).toEqual({ name, text: "" });
    }
    expect(await output(container, "head -n 1 /proc/meminfo")).toBe(`MemTotal: ${String((512 * MIB) / 1024).padStart(14)} kB\n`);
    expect((await run(container, "echo x > /proc/sys/kernel/hostname")).exit.code).not.toBe(0);
    expect((await run(container, "cat /proc/1/environ /proc/1/maps; ls /proc/1/fd /proc/1/root")).stdout.toString()).toBe("");
  });

  it("gives every device node that programs need, and no other", async () => {
    const container = await lab().make();
    const nodes = await output(
      container,
      'for n in /dev/* /dev/pts/*; do [ ! -L "$n" ] && [ -c "$n" -o -b "$n" ] && echo "$n"; done | sort',
    );
    expect(nodes.trim().split("\n")).toEqual(
      ["full", "null", "pts/ptmx", "random", "tty", "urandom", "zero"].map((name) => `/dev/${name}`),
    );
    expect(await output(container, "echo x > /dev/null; head -c 3 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c")).toBe(
      " 00 00 00\n8\n",
    );
    expect((await run(container, "touch /dev/x /usr/x /etc/x /x")).exit.code).not.toBe(0);
  });
}
