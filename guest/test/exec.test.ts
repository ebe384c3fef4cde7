// Commands inside one PID 1: how they start, what they write and read, how they end. Trees and limits: tree.test.ts.

import { afterAll, beforeAll, describe, expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { testProgram } from "./build.ts";
import { type Client, EXIT, FLAG, frame, REQUEST, TestGuest, u32 } from "./guest.ts";

const PROBE = testProgram("probe", [], ["-static"]);
const ENOENT = 2;
const EACCES = 13;
const ENOTDIR = 20;
const EINVAL = 22;
const ENOEXEC = 8;
const E2BIG = 7;
/** AddressSanitizer's own memory is not PID 1's. */
const MEMORY_KB = process.env["CORRAL_TEST_GUEST"]?.endsWith("-asan") ? 65_536 : 4096;
let guest: TestGuest;
let client: Client;
beforeAll(async () => {
  guest = new TestGuest();
  client = await guest.client();
});
afterAll(() => guest.end());

const sh = (script: string) => ["/bin/sh", "-c", script];

describe("start", () => {
  verifies(
    "guest/exact-start-errno",
    "a command that cannot start answers the kernel's errno and says when it was the directory",
    async () => {
      const start = async (argv: string[], cwd = "/", env: string[] = []) => {
        const exit = await client.exec({ argv, cwd, env }).exit;
        expect(exit.code).toBe(-1);
        return [exit.startErrno, exit.flags & EXIT.cwd];
      };
      expect(await start(["no-such-program"])).toEqual([ENOENT, 0]);
      expect(await start([""])).toEqual([ENOENT, 0]);
      expect(await start(["/no/such"])).toEqual([ENOENT, 0]);
      expect(await start(["/etc/passwd/x"])).toEqual([ENOTDIR, 0]);
      expect(await start(["/etc/passwd"])).toEqual([EACCES, 0]);
      expect(await start(["/etc"])).toEqual([EACCES, 0]);
      expect(await start(["true"], "/no/such")).toEqual([ENOENT, EXIT.cwd]);
      expect(await start(["true"], "/etc/passwd")).toEqual([ENOTDIR, EXIT.cwd]);
      // As the command's user: root of this machine may enter its home, 1000 may not.
      expect(await start(["true"], "/root")).toEqual([EACCES, EXIT.cwd]);
      expect(await start([])).toEqual([EINVAL, 0]);
      expect(await start(["true"], "/", ["NAMELESS"])).toEqual([EINVAL, 0]);
      expect(await start(["true", "x".repeat(200_000)])).toEqual([E2BIG, 0]);
    },
  );

  verifies("guest/exact-start-errno", "a text without an interpreter line is ENOEXEC and not quietly run by a shell", async () => {
    expect((await client.run("/bin/sh", "-c", "printf 'echo hi' > /tmp/corral-noexec; chmod 755 /tmp/corral-noexec")).result.code).toBe(0);
    expect((await client.run("/tmp/corral-noexec")).result.startErrno).toBe(ENOEXEC);
    await client.run("/bin/rm", "/tmp/corral-noexec");
  });

  verifies("guest/path-lookup", "the search goes through the command's own PATH, and a forbidden match beats a missing one", async () => {
    const find = (path: string, name: string) => client.exec({ argv: [name], env: [`PATH=${path}`] }).exit;
    expect((await find("/nowhere:/usr/bin:/bin", "true")).code).toBe(0);
    expect((await find("/nowhere", "true")).startErrno).toBe(ENOENT);
    expect((await find("/etc:/nowhere", "passwd")).startErrno).toBe(EACCES);
    expect((await client.exec({ argv: ["true"], env: ["PATH="], cwd: "/usr/bin" }).exit).code).toBe(0);
    expect((await find(`${"x".repeat(5000)}:/usr/bin`, "true")).code).toBe(0);
  });

  verifies("guest/environment", "variables of a command replace those of the sandbox, and each name stands once", async () => {
    const env = ["BASE=other", "A=1", "A=2", "EMPTY=", "ODD=a=b"];
    const running = client.exec({ argv: ["/usr/bin/env"], env });
    await running.exit;
    expect(running.text).toBe("PATH=/usr/bin:/bin\nBASE=other\nA=2\nEMPTY=\nODD=a=b\n");
  });

  verifies("guest/exit-status", "the exit status or the signal is told, with CPU time and peak memory", async () => {
    expect((await client.run(...sh("exit 42"))).result).toMatchObject({ code: 42, signal: 0, startErrno: 0, flags: 0 });
    expect((await client.run(...sh("kill -SEGV $$"))).result).toMatchObject({ code: -1, signal: 11 });
    const busy = (await client.run(...sh("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"))).result;
    expect(busy.cpuUs).toBeGreaterThan(1000);
    expect(busy.maxRss).toBeGreaterThan(500_000);
  });

  verifies("guest/one-exit", "an id in use cannot be started again; a finished one can", async () => {
    const other = await guest.client();
    await other.ready;
    const running = other.exec({ argv: ["/bin/cat"], flags: FLAG.stdin });
    await running.started;
    const body = Buffer.alloc(32);
    body.writeUInt16LE(1, 28);
    other.send(frame(REQUEST.exec, running.id, Buffer.concat([body, Buffer.from("/\0true\0")])));
    await other.closed;
  });
});

describe("output", () => {
  verifies("guest/binary-streams", "stdout and stderr come apart, byte for byte, and merge when asked", async () => {
    const running = await client.run(...sh("printf '\\000\\377\\n\\001'; printf 'e\\200' >&2"));
    expect([running.text, running.errors]).toEqual(["\0\xff\n\x01", "e\x80"]);
    const merged = client.exec({ argv: sh("echo a; echo b >&2; echo c"), flags: FLAG.merge });
    await merged.exit;
    expect([merged.text, merged.errors]).toEqual(["a\nb\nc\n", ""]);
  });

  verifies(
    "guest/exit-after-output",
    "EXIT follows the last byte the command wrote, also with a slow reader and a daemon left behind",
    async () => {
      const running = client.exec({ argv: sh(`(sleep 1000 & ) ; head -c 3000000 /dev/zero; echo end`), credit: false });
      const exit = running.exit.then((result) => ({ result, bytes: running.bytes }));
      let given = 0;
      while (given < 3_000_004) {
        await new Promise((go) => setImmediate(go));
        if (running.bytes > given) running.send(REQUEST.credit, u32(running.bytes - given));
        given = running.bytes;
      }
      expect(await exit).toMatchObject({ result: { code: 0 }, bytes: 3_000_004 });
      expect(running.text.endsWith("end\n")).toBe(true);
    },
  );

  verifies("guest/background-lives", "a process left behind lives on, and what it still writes is read and dropped", async () => {
    const script = "(exec 2>&-; while echo noise; do :; done) & echo $! >&2; exit 0";
    const running = await client.run(...sh(script));
    expect(running.result.code).toBe(0);
    const pid = running.errors.trim();
    const state = async () => (await client.run("/bin/sh", "-c", `cat /proc/${pid}/stat | cut -d' ' -f3,14`)).text;
    const before = await state();
    expect(before).toMatch(/^[RSD] \d+\n$/);
    // It still makes progress: its pipe is being emptied.
    let now = before;
    while (now === before) now = await state();
    await client.run("/bin/kill", "-9", pid);
  });

  verifies("guest/stalled-reader", "a reader that gives no credit stops the program and costs PID 1 no memory", async () => {
    const running = client.exec({ argv: [PROBE, "flood", "50000000"], credit: false });
    // The rest of the window is kept for what is in the pipes at the end.
    const held = (1024 - 192) * 1024;
    while (running.bytes < held) await new Promise((go) => setImmediate(go));
    // Other commands go on, and nothing more of this one comes.
    expect((await client.run(...sh("echo beside"))).text).toBe("beside\n");
    expect(running.bytes).toBe(held);
    expect(running.errors).toBe("");
    const rss = (await client.run("/bin/sh", "-c", "grep VmRSS /proc/1/status")).text;
    expect(Number(/(\d+) kB/.exec(rss)?.[1])).toBeLessThan(MEMORY_KB);
    running.send(REQUEST.stop);
    // It ends although nobody took anything, and what was in its pipe came first.
    expect(await running.exit).toMatchObject({ signal: 2, flags: 0, dropped: 0 });
    expect(running.bytes).toBe(held + 65_536);
  });

  verifies("guest/stalled-reader", "a client that reads nothing at all costs PID 1 less than 4 MiB", async () => {
    const deaf = await guest.client();
    await deaf.ready;
    deaf.socket.pause();
    for (let i = 0; i < 20; i++) deaf.exec({ argv: [PROBE, "flood", "50000000"] });
    for (let i = 0; i < 20_000; i++) deaf.send(frame(REQUEST.ping, 1, Buffer.alloc(64)));
    let rss = "";
    for (let i = 0; i < 20; i++) rss = (await client.run("/bin/sh", "-c", "sleep 0.02; grep VmRSS /proc/1/status")).text;
    expect(Number(/(\d+) kB/.exec(rss)?.[1])).toBeLessThan(MEMORY_KB);
    deaf.close();
    await client.run("/usr/bin/pkill", "-9", "test-probe");
  });

  verifies("guest/credit-window", "more credit than the window closes the connection", async () => {
    const other = await guest.client();
    await other.ready;
    const running = other.exec({ argv: ["/bin/sleep", "1000"], flags: FLAG.tied });
    await running.started;
    running.send(REQUEST.credit, u32(1));
    await other.closed;
  });

  verifies("guest/output-cap", "output beyond the cap is read and dropped, the program goes on, and the result says so", async () => {
    const running = client.exec({ argv: [PROBE, "flood", "20000000"], cap: 100_000 });
    const exit = await running.exit;
    // stderr counts too, so its last word was dropped as well.
    expect(running.bytes).toBe(100_000);
    expect(exit).toMatchObject({ code: 0, flags: EXIT.truncated, dropped: 20_000_000 - 100_000 + "through\n".length });
    const whole = client.exec({ argv: [PROBE, "flood", "100000"], cap: 100_008 });
    expect(await whole.exit).toMatchObject({ code: 0, flags: 0, dropped: 0 });
  });
});

describe("input", () => {
  verifies("guest/stdin", "stdin arrives whole and its end is seen; without the flag it is empty", async () => {
    const running = client.exec({ argv: ["/usr/bin/sha256sum"], flags: FLAG.stdin });
    const bytes = Buffer.alloc(2_000_000, "abc");
    let sent = 0;
    while (sent < bytes.length) {
      const room = 256 * 1024 - (sent - running.stdinCredit);
      if (room <= 0) {
        await new Promise((go) => setImmediate(go));
        continue;
      }
      const part = bytes.subarray(sent, sent + Math.min(room, 100_000));
      running.send(REQUEST.stdin, part);
      sent += part.length;
    }
    running.send(REQUEST.stdinEof);
    await running.exit;
    const { createHash } = await import("node:crypto");
    expect(running.text).toContain(createHash("sha256").update(bytes).digest("hex"));
    expect((await client.run("/bin/cat")).result.code).toBe(0);
  });

  verifies("guest/stdin", "a program that never reads stops its sender, one that closed stdin does not", async () => {
    const idle = client.exec({ argv: ["/bin/sleep", "1000"], flags: FLAG.stdin });
    await idle.started;
    idle.send(REQUEST.stdin, Buffer.alloc(256 * 1024));
    // What fits into the pipe is credited, no more.
    while (idle.stdinCredit < 65_536) await new Promise((go) => setImmediate(go));
    await client.run("/bin/true");
    expect(idle.stdinCredit).toBe(65_536);
    idle.send(REQUEST.signal, u32(9, 0));
    await idle.exit;
    expect(idle.stdinCredit).toBe(256 * 1024);
    const closed = client.exec({ argv: sh("exec <&-; echo closed; sleep 1000"), flags: FLAG.stdin });
    await closed.until(/closed/);
    closed.send(REQUEST.stdin, Buffer.alloc(200_000));
    while (closed.stdinCredit < 200_000) await new Promise((go) => setImmediate(go));
    closed.send(REQUEST.stop);
    await closed.exit;
  });

  verifies("guest/stdin-window", "stdin beyond the window closes the connection", async () => {
    const other = await guest.client();
    await other.ready;
    const running = other.exec({ argv: ["/bin/sleep", "1000"], flags: FLAG.stdin | FLAG.tied });
    await running.started;
    running.send(REQUEST.stdin, Buffer.alloc(256 * 1024));
    running.send(REQUEST.stdin, Buffer.alloc(256 * 1024));
    await other.closed;
  });
});

describe("terminal", () => {
  verifies("guest/pty", "a command gets a controlling terminal of its own with the asked size, which can change", async () => {
    const running = client.exec({
      argv: sh("tty; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done"),
      flags: FLAG.pty,
      rows: 31,
      cols: 97,
    });
    await running.until(/ready/);
    expect(running.text).toMatch(/^\/dev\/pts\/\d+\r\n31 97\r\nready/);
    running.send(REQUEST.resize, Buffer.from([40, 0, 120, 0]));
    expect(await running.exit).toMatchObject({ code: 5 });
    expect(running.text).toMatch(/40 120\r\n$/);
  });

  verifies(
    "guest/pty",
    "typed bytes arrive, ^C interrupts, the terminal can be opened by its name, its last output is not lost",
    async () => {
      const running = client.exec({ argv: sh("stat -c %u $(tty) > $(tty); echo by-name > $(tty); cat; echo last"), flags: FLAG.pty });
      expect(await running.until(/by-name/)).toMatch(/^1000\r\n/);
      running.send(REQUEST.stdin, Buffer.from("typed\n"));
      await running.until(/typed\r\ntyped/);
      running.send(REQUEST.stdinEof);
      expect((await running.exit).code).toBe(0);
      expect(running.text).toMatch(/last\r\n$/);
      const interrupted = client.exec({ argv: ["/bin/sleep", "1000"], flags: FLAG.pty });
      await interrupted.started;
      interrupted.send(REQUEST.stdin, Buffer.from("\x03"));
      expect((await interrupted.exit).signal).toBe(2);
      const long = client.exec({ argv: sh("seq 1 20000"), flags: FLAG.pty });
      await long.exit;
      expect(long.text.endsWith("\r\n20000\r\n")).toBe(true);
    },
  );
});
