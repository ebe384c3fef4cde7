// Guests that lie at random, against the host's end of their connection: frames that could be true, frames that could not, cut anywhere.
// Single lies by name are in container.test.ts.

import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { expect } from "vitest";
import { exec, EXITED, type FakeGuest, fakeGuest, frame, u32 } from "../../../test/fixtures/fake-guest.ts";
import { fuzzed } from "../../../test/fuzz/budget.ts";
import { verifies } from "../../../test/verifies.ts";
import { CorralError, errorCode } from "../../api/errors.ts";
import { GUEST, records } from "./frames.ts";

const RUNS = 40;
const KEY = "k1";
/** Codes that a caller may see of a guest that is not what it should be. */
const TOLD: readonly unknown[] = ["sandbox_lost", "guest_protocol", "process_not_found", "exec_failed", "command_not_found"];

/** Ids: those that requests below have, their neighbours, and what none has. */
const id = fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 0, max: 8 }) }, fc.constantFrom(0xffff_ffff, 0x8000_0000));
const type = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...Object.values(GUEST)) }, fc.nat(255));
const kept = fc
  .array(
    fc.record({
      key: fc.constantFrom(KEY, "", "../x", "k".repeat(5000)),
      pid: fc.constantFrom("1", "-1", "1e9", "99999999999999999999"),
      state: fc.constantFrom("running", "ended", "dead"),
      range: fc.constantFrom(["0", "0"], ["9", "3"], ["0", "9007199254740993"]),
      note: fc.string({ maxLength: 8 }),
    }),
    { maxLength: 3 },
  )
  .map((list) =>
    records([
      ["forgotten", "0"],
      ...list.map(({ key, pid, state, range, note }) => ["kept", key, pid, state, ...range, note.replaceAll("\0", "")]),
    ]),
  );
const payload = fc.oneof(
  fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(Buffer.alloc(0), EXITED, u32(1), u32(0xffff_ffff), u32(0, 0, 0, 0, 0, 0, 0), Buffer.alloc(70_000, 7)),
  kept,
);
const one = fc.tuple(type, id, payload).map(([kind, at, body]) => frame(kind, at, body));
/** What a correct guest could say, so that a lie meets a connection in the middle of its work. */
const honest = fc.constantFrom(
  frame(GUEST.started, 1, u32(7)),
  frame(GUEST.stdout, 1, Buffer.from("out")),
  frame(GUEST.exit, 1, EXITED),
  frame(GUEST.started, 2, u32(8)),
  frame(GUEST.stdinCredit, 2, u32(1)),
  frame(GUEST.pong, 4),
);
const bytes = fc
  .tuple(fc.array(fc.oneof({ weight: 2, arbitrary: honest }, one), { maxLength: 12 }), fc.uint8Array({ maxLength: 20 }), fc.boolean())
  .map(([frames, noise, isNoisy]) => Buffer.concat(isNoisy ? [...frames, noise] : frames));
const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 6 });

/** Everything that a host asks of a guest, at once; resolves when each has an end. */
function everything({ container }: FakeGuest): Promise<unknown>[] {
  const commands = [exec(container), exec(container, { stdin: true })];
  const attached = Promise.withResolvers<unknown>();
  container.attach(KEY, 0, {
    onAttached: () => undefined,
    onOutput: () => true,
    onExit: attached.resolve,
    onLost: attached.resolve,
    onUnknown: () => attached.resolve(undefined),
  });
  return [
    ...commands.map(({ ended }) => ended),
    commands[1]?.process.write(Buffer.from("in")),
    attached.promise,
    container.ping(),
    container.kept(),
  ].map((call) => Promise.resolve(call).catch((error: unknown) => errorCode(error)));
}

verifies(
  "runtime/hostile-guest",
  "a guest that lies at random ends its own sandbox: each call of it has an end, no other is disturbed",
  async () => {
    const unforeseen: unknown[] = [];
    const note = (error: unknown): void => void unforeseen.push(error);
    process.on("unhandledRejection", note);
    try {
      const other = await fakeGuest("other");
      await other.container.ready;
      let turn = 0;
      await fuzzed(
        fc.asyncProperty(bytes, cuts, async (lie, at) => {
          turn += 1;
          const liar = await fakeGuest(`liar-${turn}`);
          await liar.container.ready;
          const calls = everything(liar);
          let sent = 0;
          for (const length of at) {
            liar.raw(lie.subarray(sent, sent + length));
            sent += length;
            await sleep(0);
          }
          liar.raw(lie.subarray(sent));
          liar.close();
          expect(typeof (await liar.container.lost)).toBe("string");
          for (const answer of await Promise.all(calls))
            if (typeof answer === "string" && answer.includes("_")) expect(TOLD).toContain(answer);
          await liar.container.destroy();
          expect(liar.ends).toEqual([[]]);
          expect(() => exec(liar.container)).toThrow(CorralError);
          const pinged = other.container.ping();
          await expect.poll(() => other.requests.at(-1)?.type, { interval: 1 }).toBe(GUEST.ping);
          other.send(GUEST.pong, other.requests.at(-1)?.id ?? 0);
          await pinged;
          other.requests.length = 0;
        }),
        RUNS,
      );
      expect(unforeseen).toEqual([]);
    } finally {
      process.off("unhandledRejection", note);
    }
  },
  600_000,
);
