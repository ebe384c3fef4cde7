// Kept commands at the border: what the host sends for them, what it takes from a guest, and what it takes from none.

import { describe, expect, it } from "vitest";
import { EXITED, exec, fakeGuest, frame, u32 } from "../../../test/fixtures/fake-guest.ts";
import { STDIN_WINDOW_BYTES } from "../../api/limits.ts";
import type { GuestAttach, GuestExit } from "../runtime.ts";
import type { GuestContainer } from "./container.ts";
import { GUEST, records } from "./frames.ts";

const IDLE_ATTACH: GuestAttach = {
  onAttached: () => undefined,
  onUnknown: () => undefined,
  onOutput: () => true,
  onExit: () => undefined,
  onLost: () => undefined,
};

describe("kept commands of a guest", () => {
  const ATTACHED = Buffer.concat([u32(0, 7), u32(9, 0), u32(STDIN_WINDOW_BYTES, 100, 2 | 32 | 64)]);
  const attach = (container: GuestContainer) => {
    const { promise, resolve } = Promise.withResolvers<GuestExit | string>();
    const output: string[] = [];
    const process = container.attach("sh-1", 2 ** 33 + 5, {
      onAttached: ({ pid, offset }) => output.push(`${pid} from ${offset}`),
      onUnknown: () => resolve("unknown"),
      onOutput: (stream, chunk) => output.push(`${stream} ${Buffer.from(chunk).toString()}`) > 0,
      onControl: (chunk) => output.push(`control ${Buffer.from(chunk).toString()}`),
      onExit: resolve,
      onLost: resolve,
    });
    return { process, output, ended: promise };
  };

  it("attaches to a kept command by its key, and sends it no more than the guest has room for", async () => {
    const guest = await fakeGuest();
    await guest.container.ready;
    const { process, output, ended } = attach(guest.container);
    const { id, payload } = await guest.asked(GUEST.attach);
    expect([payload.readBigUInt64LE(0), payload.toString("latin1", 8)]).toEqual([2n ** 33n + 5n, "sh-1\0"]);
    guest.send(GUEST.attached, id, ATTACHED);
    guest.send(GUEST.stderr, id, Buffer.from("e"));
    guest.send(GUEST.control, id, Buffer.from("c"));
    await expect.poll(() => output).toEqual(["7 from 9", "stderr e", "control c"]);
    const waits = process.control(Buffer.alloc(200));
    guest.send(GUEST.controlCredit, id, u32(100));
    await waits;
    expect((await guest.asked(GUEST.controlIn)).payload.length).toBe(200);
    guest.send(GUEST.detached, id);
    expect(await ended).toMatch(/another server/);
    process.signal(9);
  });

  it("is told when the guest knows no such command", async () => {
    const guest = await fakeGuest();
    await guest.container.ready;
    const { ended } = attach(guest.container);
    guest.send(GUEST.attached, (await guest.asked(GUEST.attach)).id, Buffer.concat([u32(2), Buffer.alloc(24)]));
    expect(await ended).toBe("unknown");
    expect(() => guest.container.attach("A", 0, IDLE_ATTACH)).toThrow(expect.objectContaining({ code: "request_invalid" }));
    expect(() => exec(guest.container, { key: "a/b" })).toThrow(expect.objectContaining({ code: "request_invalid" }));
  });

  const attachLies: readonly (readonly [string, (id: number) => Buffer])[] = [
    ["output before ATTACHED", (id) => frame(GUEST.stdout, id, Buffer.from("x"))],
    ["an exit before ATTACHED", (id) => frame(GUEST.exit, id, EXITED)],
    ["a start", (id) => frame(GUEST.started, id, u32(1))],
    ["an ATTACHED of another length", (id) => frame(GUEST.attached, id, u32(0))],
    ["ATTACHED twice", (id) => Buffer.concat([frame(GUEST.attached, id, ATTACHED), frame(GUEST.attached, id, ATTACHED)])],
    ["an error that no guest has", (id) => frame(GUEST.attached, id, Buffer.concat([u32(5), Buffer.alloc(24)]))],
    [
      "an offset that no number holds",
      (id) => frame(GUEST.attached, id, Buffer.concat([u32(0, 7), Buffer.alloc(8, 255), Buffer.alloc(12)])),
    ],
    ["more room than the window", (id) => frame(GUEST.attached, id, Buffer.concat([u32(0, 7, 0, 0, STDIN_WINDOW_BYTES + 1, 0, 2)]))],
    ["credit beyond what was sent", (id) => Buffer.concat([frame(GUEST.attached, id, ATTACHED), frame(GUEST.stdinCredit, id, u32(1))])],
  ];
  for (const [lie, bytes] of attachLies) {
    it(`ends the sandbox when the guest answers an attach with ${lie}`, async () => {
      const guest = await fakeGuest();
      await guest.container.ready;
      const { ended } = attach(guest.container);
      guest.raw(bytes((await guest.asked(GUEST.attach)).id));
      expect(await guest.container.lost).toMatch(/protocol/);
      await ended;
    });
  }

  it("lists kept commands, and takes no list that a guest cannot have", async () => {
    const one = ["kept", "proc-1", "7", "running", "3", "9", "a note"];
    const lists: (readonly (readonly string[])[])[] = [
      [],
      [["forgotten", "x"]],
      [["forgotten", "0"], one, one],
      [["forgotten", "0"], one.slice(0, 6)],
      [
        ["forgotten", "0"],
        ["kept", "A", "7", "running", "3", "9", ""],
      ],
      [
        ["forgotten", "0"],
        ["kept", "a", "7", "walking", "3", "9", ""],
      ],
      [
        ["forgotten", "0"],
        ["kept", "a", "7", "ended", "10", "9", ""],
      ],
      [
        ["forgotten", "0"],
        ["kept", "a", "7", "ended", "1", "9999999999999999", ""],
      ],
      [["forgotten", "0"], ...Array.from({ length: 65 }, (_, n) => ["kept", `k${n}`, "7", "ended", "1", "9", ""])],
    ];
    for (const [n, list] of [[["forgotten", "2"], one], ...lists].entries()) {
      const guest = await fakeGuest(`g${n}`);
      await guest.container.ready;
      const asked = guest.container.kept();
      guest.send(GUEST.kept, (await guest.asked(GUEST.list)).id, records(list));
      if (n === 0) expect(await asked).toEqual([{ key: "proc-1", note: "a note", pid: 7, isRunning: true, from: 3, to: 9 }]);
      else await expect(asked).rejects.toMatchObject({ code: "sandbox_lost" });
    }
  });

  it("throws away what stdin was not read of, and opens it again without waiting for it", async () => {
    const guest = await fakeGuest();
    const command = exec(guest.container, { stdin: true, control: true });
    const { id } = await guest.asked(GUEST.exec);
    expect((await guest.asked(GUEST.exec)).payload.readUInt32LE(0)).toBe(2 | 64);
    guest.send(GUEST.started, id, u32(1));
    const stuck = command.process.write(Buffer.alloc(STDIN_WINDOW_BYTES + 10, 5));
    await guest.asked(GUEST.stdin);
    command.process.restartStdin();
    await stuck;
    const next = command.process.write(Buffer.from("next"));
    guest.send(GUEST.stdinCredit, id, u32(STDIN_WINDOW_BYTES));
    await next;
    await expect.poll(() => guest.requests.at(-1)).toMatchObject({ type: GUEST.stdin, payload: Buffer.from("next") });
    expect(guest.requests.map(({ type }) => type)).toEqual([GUEST.exec, ...Array(4).fill(GUEST.stdin), GUEST.stdinAgain, GUEST.stdin]);
  });
});
