// Commands that are forked from a command instead of being executed: what they are given, whose they are, and what a forker that lies gets.

import { afterAll, beforeAll, describe, expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { type Client, FLAG, REQUEST, type Running, TestGuest, u32 } from "./guest.ts";

const FORK_FLAG = { forker: 256, forked: 512 } as const;
const ESRCH = 3;
const ECHILD = 10;
const SIGKILL = 9;
let guest: TestGuest;
let client: Client;
beforeAll(async () => {
  guest = new TestGuest();
  client = await guest.client();
});
afterAll(() => guest.end());

/** `child`: what a forked process does; the five descriptors lie in `given`, the token in `token`. */
function forker(child: string, parent = "os.waitpid(pid, 0)"): Running {
  const script = `
import os, socket, sys, time
s = socket.socket(fileno=5)
os.write(4, b"ready")
while True:
  token, given, _, _ = socket.recv_fds(s, 4, 5)
  if not token: os._exit(0)
  pid = os.fork()
  if pid:
    for fd in given: os.close(fd)
    ${parent}
    continue
  middle = os.getpid()
  def orphan():
    if os.fork(): os._exit(0)
    while os.getppid() == middle: os.sched_yield()
    os.setsid()
  def become():
    for fd in [os.dup(fd) for fd in [0] * 20]: pass
    high = [os.dup(fd) for fd in given]
    for to, fd in enumerate(high): os.dup2(fd, to)
    s.send(token)
    os.closerange(5, 200)
  ${child}
  os._exit(7)
`;
  return client.exec({ argv: ["/usr/bin/python3", "-c", script], flags: FLAG.control | FORK_FLAG.forker | FLAG.tied });
}

const forked = (of: Running): Running => client.exec({ argv: [String(of.id)], flags: FLAG.control | FORK_FLAG.forked | FLAG.tied });
const ready = async (running: Running): Promise<Running> => {
  while (running.controlText === "") await new Promise((go) => setTimeout(go, 5));
  return running;
};

describe("a forked command", () => {
  verifies(
    "guest/forked",
    "a forked command has streams, a control channel, signals and an end of its own, as one that was executed",
    async () => {
      const parent = await ready(forker('orphan(); become(); print("out", flush=True); os.write(4, os.read(3, 5)); time.sleep(30)'));
      const one = forked(parent);
      const two = forked(parent);
      const [first, second] = [await one.started, await two.started];
      expect(new Set([first, second, parent.pid]).size).toBe(3);
      one.send(REQUEST.controlIn, Buffer.from("hello"));
      await one.until(/out/);
      while (one.controlText === "") await new Promise((go) => setTimeout(go, 5));
      expect(one.controlText).toBe("hello");
      expect(two.controlText).toBe("");
      one.send(REQUEST.signal, u32(SIGKILL, 1));
      expect(await one.exit).toMatchObject({ code: -1, signal: SIGKILL, startErrno: 0 });
      two.send(REQUEST.controlIn, Buffer.from("again"));
      while (two.controlText === "") await new Promise((go) => setTimeout(go, 5));
      two.send(REQUEST.stop);
      expect(await two.exit).toMatchObject({ signal: 2 });
      parent.send(REQUEST.signal, u32(SIGKILL, 1));
      expect(await parent.exit).toMatchObject({ signal: SIGKILL });
      expect(await forked(parent).exit).toMatchObject({ startErrno: ESRCH });
    },
  );

  verifies("guest/forker-lies", "what a forker answers names nobody but a child of PID 1 that is no command yet", async () => {
    const lies: readonly (readonly [string, string])[] = [
      ["the forker itself", "s.send(token)"],
      ["a child that is not PID 1's", "os.setsid(); s.send(token); time.sleep(1)"],
      [
        "one that leads no group",
        "orphan.__code__; \n  if os.fork(): os._exit(0)\n  while os.getppid() == middle: os.sched_yield()\n  s.send(token)",
      ],
    ];
    for (const [what, lie] of lies) {
      const parent = await ready(what === "the forker itself" ? forker("pass", lie) : forker(lie, "pass"));
      expect(await forked(parent).exit, what).toMatchObject({ startErrno: ECHILD });
      parent.send(REQUEST.signal, u32(SIGKILL, 1));
      await parent.exit;
    }
    // An answer to nobody, descriptors that nobody asked for, and then its end: who waits is told.
    const parent = await ready(forker('s.send(b"none"); socket.send_fds(s, b"more", [0, 1]); s.send(b"")', "pass"));
    const waits = forked(parent);
    await client.run("/bin/true");
    parent.send(REQUEST.signal, u32(SIGKILL, 1));
    expect(await waits.exit).toMatchObject({ startErrno: ESRCH });
    expect((await client.run("/bin/echo", "well")).text).toBe("well\n");
  });

  verifies("guest/fork-flags", "forking goes with a control channel alone, and with no flag that it could not honour", async () => {
    for (const flags of [
      FORK_FLAG.forked,
      FORK_FLAG.forker,
      FORK_FLAG.forker | FORK_FLAG.forked | FLAG.control,
      FORK_FLAG.forked | FLAG.control | FLAG.root,
    ]) {
      const other = await guest.client();
      other.exec({ argv: ["1"], flags });
      await other.closed;
    }
  });
});
