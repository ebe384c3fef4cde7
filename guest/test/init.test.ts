// PID 1 before it serves: what it sets, reads back and refuses. Started by launch.c with the real seccomp program.

import { execFileSync } from "node:child_process";
import { connect } from "node:net";
import { afterEach, describe, expect } from "vitest";
import { CLONE3_PLACEHOLDERS } from "../../src/runtime/seccomp/filter.ts";
import { verifies } from "../../test/verifies.ts";
import { testProgram } from "./build.ts";
import { ANSWER, FLAG, frame, type GuestOptions, REQUEST, TestGuest, testFilter, u32 } from "./guest.ts";

let guests: TestGuest[] = [];
function start(options: GuestOptions = {}): TestGuest {
  const guest = new TestGuest(options);
  guests.push(guest);
  return guest;
}
afterEach(async () => {
  for (const guest of guests) await guest.end();
  guests = [];
});

const PROBE = testProgram("probe", [], ["-static"]);
const NO_CAPS = "0000000000000000";

describe("walls", () => {
  verifies("guest/walls-read-back", "PID 1 tells the kernel's own words of its walls in the first frame", async () => {
    const client = await start().client();
    const ready = await client.ready;
    for (const set of ["cap-inh", "cap-bnd", "cap-amb"]) expect(ready.get(set)).toBe(NO_CAPS);
    // SETUID, SETGID and KILL: what starting and signalling commands of another uid takes.
    expect(ready.get("cap-eff")).toBe("00000000000000e0");
    expect(ready.get("cap-prm")).toBe("00000000000000e0");
    expect([ready.get("nnp"), ready.get("seccomp"), ready.get("dumpable"), ready.get("groups")]).toEqual(["1", "2", "0", "0"]);
    expect(Number(ready.get("ns pid"))).toBeGreaterThan(0);
  });

  verifies("guest/command-walls", "a command has no capability, no group, one filter and cannot gain privileges", async () => {
    const client = await start().client();
    const status = (await client.run("/bin/cat", "/proc/self/status")).text;
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) expect(status).toMatch(new RegExp(`${set}:\\t${NO_CAPS}\\n`));
    expect(status).toMatch(/NoNewPrivs:\t1\n/);
    expect(status).toMatch(/Seccomp:\t2\n/);
    expect(status).toMatch(/Groups:\t\s*\n/);
    expect(status).toMatch(/Uid:\t1000\t1000\t1000\t1000\n/);
  });

  verifies("guest/command-walls", "where one id is mapped, PID 1 and its commands hold nothing either", async () => {
    const client = await start({ ids: "one" }).client();
    expect((await client.ready).get("cap-prm")).toBe(NO_CAPS);
    expect((await client.run("/bin/cat", "/proc/self/status")).text).toMatch(new RegExp(`CapBnd:\\t${NO_CAPS}\\n`));
  });

  verifies(
    "guest/root-inside",
    "where uid 0 is offered it has eight capabilities and no way to PID 1, and ordinary commands show none",
    async () => {
      const client = await start({ records: ["root", "1"] }).client();
      const eight = "00000000000004fb";
      expect((await client.ready).get("cap-bnd")).toBe(eight);
      const root = client.exec({
        argv: ["/bin/sh", "-c", "cat /proc/self/status; cat /proc/1/mem /proc/1/environ /proc/1/syscall; kill -9 1; echo end"],
        flags: FLAG.root,
      });
      await root.exit;
      expect(root.text).toMatch(
        new RegExp(
          `CapInh:\\t${NO_CAPS}\\nCapPrm:\\t${eight}\\nCapEff:\\t${eight}\\nCapBnd:\\t${eight}\\nCapAmb:\\t${NO_CAPS}\\nNoNewPrivs:\\t1\\n`,
        ),
      );
      expect(root.text).toMatch(/Uid:\t0\t0\t0\t0\n[^]*Speculation[^]*\nend\n$/);
      expect((await client.run("/bin/cat", "/proc/self/status")).text).toMatch(
        new RegExp(`CapPrm:\\t${NO_CAPS}\\nCapEff:\\t${NO_CAPS}\\nCapBnd:\\t${NO_CAPS}\\n`),
      );
      const closed = await start().client();
      expect((await closed.exec({ argv: ["true"], flags: FLAG.root }).exit).startErrno).toBe(1);
    },
  );

  verifies("guest/clean-start", "a command begins with three descriptors, the documented environment and default signals", async () => {
    const client = await start().client();
    expect((await client.run(PROBE, "descriptors")).text.trim()).toBe("0 1 2");
    expect((await client.run("/usr/bin/env")).text).toBe("PATH=/usr/bin:/bin\nBASE=base\n");
    const status = (await client.run("/bin/cat", "/proc/self/status")).text;
    expect(status).toMatch(/SigBlk:\t0{16}\nSigIgn:\t0{16}\n/);
  });

  verifies("guest/hard-limits", "a command cannot raise a hard limit, and is a better OOM victim than PID 1", async () => {
    const client = await start({ records: ["nofile", "512"] }).client();
    expect((await client.run(PROBE, "raise-limits")).text.trim()).toBe("1 1 1 1 1");
    expect((await client.run("/bin/sh", "-c", "ulimit -n; cat /proc/self/oom_score_adj; ulimit -c")).text).toBe("512\n300\n0\n");
    // Lowered again by a timer: asked until it is.
    let own = "";
    while (own !== "0") own = (await client.run("/bin/sh", "-c", "sleep 0.1; cat /proc/1/oom_score_adj")).text.trim();
  });

  verifies("guest/clone3-key", "clone3 is closed to commands, also with the published placeholders", async () => {
    const client = await start().client();
    expect((await client.run(PROBE, "clone3")).text.trim()).toBe("38");
    expect((await client.run(PROBE, "clone3-published")).text.trim()).toBe("38");
  });

  verifies("guest/private-pid1", "a command can neither read PID 1's memory, registers and descriptors nor end it", async () => {
    const client = await start().client();
    const script =
      "for f in mem maps environ syscall auxv stack; do cat /proc/1/$f >/dev/null 2>&1 && echo read $f; done; ls /proc/1/fd >/dev/null 2>&1 && echo listed; kill -9 1; kill -STOP 1; echo alive";
    expect((await client.run("/bin/sh", "-c", script)).text).toBe("alive\n");
    expect((await client.run("/bin/echo", "still")).text).toBe("still\n");
  });
});

describe("refusals", () => {
  verifies("guest/fail-closed", "a handover that is unknown, short or without a filter ends PID 1 before it serves", async () => {
    expect(await start({ records: ["newer", "1"] }).fault).toMatch(/^16 22 .*unknown/);
    expect(await start({ records: ["weaken", "23"] }).fault).toMatch(/^16 22 /);
    expect(await start({ records: ["root"] }).fault).toMatch(/^16 22 /);
    expect(await start({ filter: Buffer.alloc(0) }).fault).toMatch(/^16 22 .*seccomp/);
    expect(await start({ filter: testFilter().subarray(0, -4) }).fault).toMatch(/^16 22 .*whole instructions/);
  });

  verifies("guest/fail-closed", "a filter with some of the clone3 placeholders, or one twice, is never installed", async () => {
    const some = testFilter();
    some.writeUInt32LE(0, placeholder(some, 8));
    expect(await start({ filter: some }).fault).toMatch(/^22 22 /);
    const twice = testFilter();
    const jump = 0x15;
    let other = 0;
    while (twice.readUInt16LE(other) !== jump) other += 8;
    twice.writeUInt32LE(CLONE3_PLACEHOLDERS[0] as number, other + 4);
    expect(await start({ filter: twice }).fault).toMatch(/^22 22 /);
  });

  verifies("guest/dies-with-spawner", "PID 1 and all inside end when the spawner is gone", async () => {
    const guest = start();
    const client = await guest.client();
    await client.exec({ argv: ["/bin/sleep", "1000"] }).started;
    process.kill(guest.launcher.pid as number, "SIGKILL");
    await client.closed;
  });

  verifies("guest/left-out-step", "a step named in the handover is left out and READY shows it", async () => {
    const dumpable = await start({ records: ["weaken", "17"] }).client();
    expect((await dumpable.ready).get("dumpable")).toBe("1");
    expect((await dumpable.run("/bin/sh", "-c", "test $(ulimit -n) -gt 64 && echo unlimited")).text).toBe("unlimited\n");
    expect((await (await start({ records: ["weaken", "18"] }).client()).ready).get("cap-bnd")).not.toBe(NO_CAPS);
    expect((await (await start({ records: ["weaken", "20"] }).client()).ready).get("nnp")).toBe("0");
    const open = await start({ records: ["weaken", "22"] }).client();
    expect((await open.ready).get("seccomp")).toBe("0");
    expect((await open.run(PROBE, "clone3")).text.trim()).toBe("0");
  });
});

function placeholder(filter: Buffer, number: number): number {
  for (let at = 4; at < filter.length; at += 8) if (filter.readUInt32LE(at) === CLONE3_PLACEHOLDERS[number - 1]) return at;
  throw new Error(`placeholder ${number} is not in the filter`);
}

describe("connections", () => {
  verifies(
    "guest/strict-frames",
    "an unknown type, a long frame, a reserved byte or a wrong length closes that connection alone",
    async () => {
      const guest = start();
      const bystander = await guest.client();
      const exec = Buffer.alloc(32);
      exec.writeUInt16LE(3, 28);
      const reserved = frame(REQUEST.ping, 1);
      reserved[10] = 1;
      const long = Buffer.alloc(12);
      long.writeUInt32LE(1024 * 1024 + 1, 0);
      long[8] = REQUEST.stdin;
      const wrong = [
        frame(99, 1),
        reserved,
        long,
        frame(REQUEST.stop, 1, u32(1)),
        frame(REQUEST.ping, 1, Buffer.alloc(65)),
        frame(REQUEST.signal, 1, u32(0, 0)),
        frame(REQUEST.signal, 1, u32(9, 2)),
        frame(REQUEST.credit, 1, Buffer.alloc(3)),
        frame(REQUEST.exec, 1, Buffer.alloc(31)),
        frame(REQUEST.exec, 1, Buffer.concat([exec, Buffer.from("/\0a\0b\0")])),
        frame(REQUEST.exec, 1, Buffer.concat([exec, Buffer.from("/\0a\0b\0c")])),
        frame(REQUEST.exec, 1, Buffer.concat([exec, Buffer.from("/\0a\0b\0c\0d\0")])),
      ];
      for (const bytes of wrong) {
        const client = await guest.client();
        await client.ready;
        client.send(bytes);
        await client.closed;
      }
      expect((await bystander.run("/bin/echo", "here")).text).toBe("here\n");
    },
  );

  verifies("guest/bounded-clients", "a ninth connection is refused, and a place is free again when one closes", async () => {
    const guest = start();
    const clients = [];
    for (let i = 0; i < 8; i++) {
      const client = await guest.client();
      await client.ready;
      clients.push(client);
    }
    await (await guest.client()).closed;
    clients[0]?.close();
    let next = await guest.client();
    while ((await Promise.race([next.ready, next.closed])) === undefined) next = await guest.client();
    expect((await next.run("/bin/echo", "in")).text).toBe("in\n");
  });

  verifies("guest/outside-only", "a peer inside the sandbox's own pid namespace is refused although it reaches the socket", async () => {
    const guest = start();
    const client = await guest.client();
    const script = `import socket;s=socket.socket(socket.AF_UNIX);s.connect(${JSON.stringify(guest.socket)});print(len(s.recv(100)))`;
    // As uid 0 of the machine by way of the namespace's init: the socket file is not otherwise writable.
    execFileSync("chmod", ["-R", "a+rwx", guest.folder]);
    expect((await client.run("/usr/bin/python3", "-c", script)).text.trim()).toBe("0");
  });

  verifies("guest/no-descriptors-taken", "descriptors sent along with a frame are closed, not kept", async () => {
    const guest = start();
    await guest.fault;
    // The pipe ends for its reader only when the copy that was sent is gone too; the connection stays open meanwhile.
    const script = `import socket,os,struct
s=socket.socket(socket.AF_UNIX);s.connect(${JSON.stringify(guest.socket)});s.recv(65536)
r,w=os.pipe();socket.send_fds(s,[struct.pack("<IIBBBB",0,7,8,0,0,0)],[w]);os.close(w)
print(s.recv(100)[8],os.read(r,1))`;
    expect(execFileSync("python3", ["-c", script], { encoding: "utf8" }).trim()).toBe("71 b''");
  });

  verifies("guest/ping", "PING is answered with its own bytes", async () => {
    const client = await start().client();
    client.send(frame(REQUEST.ping, 7, Buffer.from("abc")));
    const answer = await client.other();
    expect([answer.type, answer.id, answer.body.toString()]).toEqual([ANSWER.pong, 7, "abc"]);
  });

  verifies("guest/frames-cut-anywhere", "a request that comes byte by byte means the same", async () => {
    const guest = start();
    await guest.fault;
    const socket = connect(guest.socket);
    const got: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => got.push(chunk));
    socket.setNoDelay(true);
    const bytes = frame(REQUEST.ping, 9, Buffer.from("one by one"));
    for (const byte of bytes) await new Promise((done) => socket.write(Buffer.from([byte]), done));
    while (!Buffer.concat(got).includes("one by one")) await new Promise((done) => socket.once("data", done));
    socket.destroy();
  });
});
