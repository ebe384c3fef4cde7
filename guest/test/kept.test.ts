// Commands that outlive their connection, and the control channel of shells: what a later connection finds, in which order, within which bounds.

import { afterAll, beforeAll, describe, expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { testProgram } from "./build.ts";
import { type Client, execBody, FLAG, frame, REQUEST, TestGuest, u32 } from "./guest.ts";

const PROBE = testProgram("probe", [], ["-static"]);
const ENOENT = 2;
const EAGAIN = 11;
const EEXIST = 17;
const HALF_RING = 32 * 1024;
const PIPE = 64 * 1024;
const WINDOW = 256 * 1024;
const sh = (script: string) => ["/bin/sh", "-c", script];
let guest: TestGuest;
let client: Client;
beforeAll(async () => {
  guest = new TestGuest();
  client = await guest.client();
});
afterAll(() => guest.end());

const pause = () => new Promise((go) => setImmediate(go));
/** Bytes that a process has written so far, as the kernel counts them. */
async function written(pid: number): Promise<number> {
  return Number(/wchar: (\d+)/.exec((await client.run("/bin/cat", `/proc/${pid}/io`)).text)?.[1]);
}
/** Waits until `read` gives the same value twice. */
async function settled(read: () => Promise<number>): Promise<number> {
  for (let last = -1; ; ) {
    const now = await read();
    if (now === last && now > 0) return now;
    last = now;
    await new Promise((go) => setTimeout(go, 20));
  }
}

describe("a kept command", () => {
  verifies(
    "guest/kept",
    "a kept command goes on when its connection closes, and a later connection gets its output and its end",
    async () => {
      const first = await guest.client();
      const running = first.exec({ argv: sh("echo one; echo oops >&2; read x; echo two; exit 5"), flags: FLAG.stdin, key: "a-1" });
      await running.until(/one/);
      while (running.errors === "") await pause();
      first.close();
      await first.closed;
      const second = await guest.client();
      const again = second.attach("a-1", 0);
      expect(await again.attached).toEqual({ errno: 0, pid: running.pid, from: 0, stdinRoom: WINDOW, controlRoom: WINDOW, flags: 34 });
      again.send(REQUEST.stdin, Buffer.from("go\n"));
      expect(await again.exit).toMatchObject({ code: 5, startErrno: 0 });
      expect([again.text, again.errors]).toEqual(["one\ntwo\n", "oops\n"]);
      // Ended, it is told again to whoever asks, from any offset.
      const tail = second.attach("a-1", 9);
      expect(await tail.attached).toMatchObject({ errno: 0, from: 9 });
      expect([(await tail.exit).code, tail.text, tail.errors]).toEqual([5, "two\n", ""]);
      const beyond = second.attach("a-1", 1e6);
      expect(await beyond.attached).toMatchObject({ errno: 0, from: 13 });
      expect([(await beyond.exit).code, beyond.bytes]).toEqual([5, 0]);
      second.close();
    },
  );

  verifies("guest/kept", "stdout and stderr are replayed in the order in which they were read", async () => {
    const first = await guest.client();
    // Each line waits until the one before it was heard: what was written first is then known.
    const script = "for i in 1 2 3 4 5 6; do echo o$i; read x; echo e$i >&2; read x; done; sleep 1000";
    const running = first.exec({ argv: sh(script), flags: FLAG.stdin, key: "order" });
    for (let lines = 1; lines <= 12; lines++) {
      while (running.order.length < lines) await pause();
      running.send(REQUEST.stdin, Buffer.from("\n"));
    }
    first.close();
    const again = client.attach("order", 0);
    while (!again.errors.includes("e6")) await pause();
    expect(again.order.join("")).toBe([1, 2, 3, 4, 5, 6].map((i) => `oo${i}\nee${i}\n`).join(""));
    again.send(REQUEST.stop);
    await again.exit;
  });

  verifies("guest/kept-held", "detached, it is read as far as half of the ring and then held; nothing of that is lost", async () => {
    const first = await guest.client();
    const running = first.exec({ argv: ["/usr/bin/seq", "-w", "0", "199999"], key: "held", note: `what {"it"} is` });
    await running.started;
    first.close();
    const at = await settled(() => written(running.pid));
    const [record] = (await client.list()).filter((words) => words[1] === "held");
    expect(record?.slice(0, 4)).toEqual(["kept", "held", String(running.pid), "running"]);
    expect(record?.[6]).toBe(`what {"it"} is`);
    const [from, to] = [Number(record?.[4]), Number(record?.[5])];
    expect(at - to).toBeLessThanOrEqual(PIPE);
    const again = client.attach("held", from);
    expect((await again.attached).from).toBe(from);
    expect((await again.exit).code).toBe(0);
    // Lines of equal length that count up: a hole would show.
    const lines = again.text.split("\n").slice(0, -1);
    expect(lines.at(-1)).toBe("199999");
    const numbers = lines.slice(from % 7 === 0 ? 0 : 1).map(Number);
    expect(numbers.every((value, index) => value === (numbers[0] as number) + index)).toBe(true);
    expect(again.bytes).toBe(200_000 * 7 - from);
  });

  verifies(
    "guest/kept-held",
    "an offset that is gone is told with the first one that is there, and what was sent before is kept for half a ring",
    async () => {
      const first = await guest.client();
      const running = first.exec({ argv: sh("head -c 300000 /dev/zero; sleep 1000"), key: "gone" });
      while (running.bytes < 300_000) await pause();
      first.close();
      await first.closed;
      const again = client.attach("gone", 7);
      expect((await again.attached).from).toBe(300_000 - 2 * HALF_RING);
      while (again.bytes < 2 * HALF_RING) await pause();
      // Attached elsewhere: the former one hears of it and gets no more.
      const other = await guest.client();
      const taken = other.attach("gone", 300_000);
      await again.detached;
      expect((await taken.attached).from).toBe(300_000);
      taken.send(REQUEST.signal, u32(9, 1));
      expect((await taken.exit).signal).toBe(9);
      other.close();
    },
  );

  verifies("guest/kept-bounds", "credit and windows hold after ATTACH as after EXEC", async () => {
    const first = await guest.client();
    const running = first.exec({ argv: [PROBE, "flood", "50000000"], flags: FLAG.stdin, key: "window" });
    running.send(REQUEST.stdin, Buffer.alloc(200_000));
    await running.started;
    while (running.stdinCredit < PIPE) await pause();
    first.close();
    const other = await guest.client();
    const again = other.attach("window", 0, false);
    const { stdinRoom } = await again.attached;
    expect(stdinRoom).toBe(WINDOW - 200_000 + PIPE);
    const held = (1024 - 192) * 1024;
    while (again.bytes < held) await pause();
    expect((await client.run(...sh("echo beside"))).text).toBe("beside\n");
    expect(again.bytes).toBe(held);
    again.send(REQUEST.stop);
    expect(await again.exit).toMatchObject({ signal: 2, dropped: 0 });
    const late = await guest.client();
    const over = late.exec({ argv: ["/bin/sleep", "1000"], flags: FLAG.stdin, key: "over" });
    await over.started;
    const on = other.attach("over", 0);
    await on.attached;
    on.send(REQUEST.stdin, Buffer.alloc(WINDOW));
    on.send(REQUEST.stdin, Buffer.alloc(WINDOW));
    await other.closed;
    const last = late.attach("over", 0);
    last.send(REQUEST.stop);
    await last.exit;
    late.close();
  });

  verifies(
    "guest/kept-bounds",
    "a key is taken once; too many are refused while they live, and the oldest ended one is forgotten and told so",
    async () => {
      const own = new TestGuest();
      const many = await own.client();
      await many.ready;
      try {
        const live = Array.from({ length: 64 }, (_, i) => many.exec({ argv: ["/bin/sleep", "1000"], key: `k${i}` }));
        await Promise.all(live.map((one) => one.started));
        expect((await many.exec({ argv: ["/bin/true"], key: "k0" }).exit).startErrno).toBe(EEXIST);
        expect((await many.exec({ argv: ["/bin/true"], key: "more" }).exit).startErrno).toBe(EAGAIN);
        for (const one of live.slice(0, 3)) one.send(REQUEST.stop);
        await Promise.all(live.slice(0, 3).map((one) => one.exit));
        many.send(frame(REQUEST.forget, 9_000, Buffer.from("k1\0")));
        expect((await many.exec({ argv: ["/bin/true"], key: "n1" }).exit).code).toBe(0);
        expect((await many.list())[0]).toEqual(["forgotten", "0"]);
        expect((await many.exec({ argv: ["/bin/true"], key: "n2" }).exit).code).toBe(0);
        const listed = await many.list();
        expect(listed[0]).toEqual(["forgotten", "1"]);
        const names = listed.slice(1).map((words) => words[1]);
        expect(names).toHaveLength(64);
        expect(names).not.toContain("k0");
        expect(listed.find((words) => words[1] === "k2")?.[3]).toBe("ended");
        expect((await many.attach("k0", 0).attached).errno).toBe(ENOENT);
        expect((await many.exec({ argv: ["/no/such"], key: "never" }).exit).startErrno).toBe(ENOENT);
        expect((await many.attach("never", 0).attached).errno).toBe(ENOENT);
      } finally {
        await own.end();
      }
    },
  );

  verifies("guest/kept-bounds", "keys and flags that cannot be are refused", async () => {
    const bodies = ["", "A", "a_b", "a/b", "k".repeat(65), "a\0b"].map((key) => execBody({ argv: ["/bin/true"], key }));
    bodies.push(
      execBody({ argv: ["/bin/true"], key: "x", note: "n".repeat(4097) }),
      execBody({ argv: ["/bin/true"], key: "x", note: "\0" }),
    );
    bodies.push(execBody({ argv: ["/bin/true"], key: "x", flags: FLAG.tied }));
    bodies.push(execBody({ argv: ["/bin/true"], flags: FLAG.pty | FLAG.control }), execBody({ argv: ["/bin/true"], flags: 256 }));
    for (const body of bodies) {
      const other = await guest.client();
      await other.ready;
      other.send(frame(REQUEST.exec, 1, body));
      await other.closed;
    }
  });
});

describe("the control channel", () => {
  const ECHO = 'while read -r line <&3; do eval "$line" 3<&- 4>&-; echo "$?" >&4; done';
  const control = (text: string): Buffer => Buffer.from(text);

  verifies("guest/control", "bytes go in by descriptor 3 and out by 4, never before what the command wrote first", async () => {
    const running = client.exec({ argv: ["/bin/bash", "-c", ECHO], flags: FLAG.control | FLAG.stdin, credit: false });
    for (const [i, line] of [
      "printf foo",
      "echo e >&2",
      "head -c 60000 /dev/zero | tr '\\0' x; echo q >&2; (exit 3)",
      "seq 1 9000",
    ].entries()) {
      running.order.length = 0;
      running.send(REQUEST.controlIn, control(`${line}\n`));
      while (running.controlText.split("\n").length < i + 2) await pause();
      expect(running.order.at(-1)).toMatch(/^c\d\n$/);
    }
    expect(running.controlText).toBe("0\n0\n3\n0\n");
    expect(running.text.endsWith("\n9000\n")).toBe(true);
    expect(running.errors).toBe("e\nq\n");
    running.send(REQUEST.controlIn, control("exit 7\n"));
    expect((await running.exit).code).toBe(7);
  });

  verifies("guest/control", "no end of a command is ahead of its output, however close the two are", async () => {
    const running = client.exec({ argv: ["/bin/bash", "-c", ECHO], flags: FLAG.control });
    const count = 5000;
    running.send(REQUEST.controlIn, control("printf x\n".repeat(count)));
    while (running.controlText.length < 2 * count) await pause();
    let [output, ended] = [0, 0];
    for (const piece of running.order) {
      if (piece.startsWith("o")) output += piece.length - 1;
      else ended += (piece.length - 1) / 2;
      expect(output).toBeGreaterThanOrEqual(ended);
    }
    expect([output, ended]).toEqual([count, count]);
    running.send(REQUEST.stop);
    await running.exit;
  });

  verifies("guest/control", "a background job that never stops writing does not keep the end of a command back", async () => {
    const running = client.exec({ argv: ["/bin/bash", "-c", ECHO], flags: FLAG.control });
    running.keep = false;
    running.send(REQUEST.controlIn, control("yes & echo\n"));
    while (running.controlText === "") await pause();
    running.send(REQUEST.stop);
    await running.exit;
  });

  verifies("guest/control", "stdin can end and begin again, and what nobody read of it is gone", async () => {
    const running = client.exec({ argv: ["/bin/bash", "-c", ECHO], flags: FLAG.control | FLAG.stdin });
    running.send(REQUEST.stdinEof);
    running.send(REQUEST.controlIn, control("cat; echo none\n"));
    await running.until(/none/);
    running.send(REQUEST.stdinAgain);
    running.send(REQUEST.stdin, Buffer.from("first\nrest that nobody reads"));
    running.send(REQUEST.controlIn, control("head -n 1; sleep 0.2\n"));
    await running.until(/first/);
    running.send(REQUEST.stdinAgain);
    running.send(REQUEST.controlIn, control("cat; echo done\n"));
    running.send(REQUEST.stdin, Buffer.from("sec"));
    await running.until(/sec/);
    running.send(REQUEST.stdin, Buffer.from("ond\n"));
    running.send(REQUEST.stdinEof);
    await running.until(/done/);
    expect(running.text).toMatch(/^none\nfirst\n(rest that nobody reads)?second\ndone\n$/);
    running.send(REQUEST.stop);
    await running.exit;
  });

  verifies("guest/control", "control bytes survive the connection, in their place among the output", async () => {
    const first = await guest.client();
    const running = first.exec({ argv: ["/bin/bash", "-c", ECHO], flags: FLAG.control | FLAG.stdin, key: "shell" });
    running.send(REQUEST.controlIn, control("x=5; echo a\nsleep 0.3; echo b\n"));
    while (running.controlText === "") await pause();
    first.close();
    const again = client.attach("shell", 0);
    while (again.controlText !== "0\n0\n") await pause();
    expect(again.order.join("")).toBe("oa\nc0\nob\nc0\n");
    again.send(REQUEST.controlIn, control("echo $x; exit 4\n"));
    expect([(await again.exit).code, again.text]).toEqual([4, "a\nb\n5\n"]);
  });

  verifies(
    "guest/control",
    "control bytes beyond the window close the connection; with no channel they are taken and dropped",
    async () => {
      const other = await guest.client();
      await other.ready;
      const none = other.exec({ argv: ["/bin/sleep", "1000"], flags: FLAG.tied });
      await none.started;
      none.send(REQUEST.controlIn, control("x"));
      none.send(REQUEST.stdinAgain);
      await other.run("/bin/true");
      const running = other.exec({ argv: ["/bin/sleep", "1000"], flags: FLAG.tied | FLAG.control });
      await running.started;
      running.send(REQUEST.controlIn, Buffer.alloc(WINDOW));
      running.send(REQUEST.controlIn, Buffer.alloc(WINDOW));
      await other.closed;
    },
  );
});

verifies("guest/stdio-by-name", "a command can open its standard streams again by their names", async () => {
  const running = client.exec({ argv: sh("cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr"), flags: FLAG.stdin });
  running.send(REQUEST.stdin, Buffer.from("in\n"));
  running.send(REQUEST.stdinEof);
  expect((await running.exit).code).toBe(0);
  expect([running.text, running.errors]).toEqual(["in\nout\n", "err\n"]);
});
