// The order in which turns begin, against what it promises. Pure: time is a number.

import fc from "fast-check";
import { expect } from "vitest";
import { verifies } from "../../../test/verifies.ts";
import { TurnQueue, type Waiting } from "./queue.ts";

verifies("loom/no-starvation", "turns begin in order within a session, in turn between owners, by priority, and waiting counts", () => {
  const queue = new TurnQueue({ concurrency: 100, perOwner: 100 });
  const turn = (id: string, ownerId: string, more: Partial<Waiting> = {}): Waiting => ({
    id,
    sessionId: id,
    ownerId,
    priority: 50,
    since: 0,
    ...more,
  });
  for (const id of ["a1", "a2", "a3"]) queue.add(turn(id, "a"));
  for (const id of ["b1", "b2"]) queue.add(turn(id, "b"));
  queue.add(turn("late", "c", { priority: 60, since: 0 }));
  queue.add(turn("old", "d", { priority: 0, since: -550_000 }));
  expect(Array.from({ length: 7 }, () => queue.take(0)?.id)).toEqual(["late", "old", "a1", "b1", "a2", "b2", "a3"]);
  expect(queue.take(0)).toBeUndefined();
});

verifies(
  "loom/queue-bounds",
  "never more turns run than may, of all, of an owner and of a session, and every turn begins once, in order",
  () => {
    const step = fc.record({
      session: fc.nat({ max: 5 }),
      owner: fc.nat({ max: 2 }),
      priority: fc.nat({ max: 3 }),
      take: fc.boolean(),
      remove: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const queue = new TurnQueue({ concurrency: 4, perOwner: 2 });
        const waiting: Waiting[] = [];
        const running: Waiting[] = [];
        const begun: string[] = [];
        const take = (now: number): void => {
          const next = queue.take(now);
          if (next === undefined) return;
          begun.push(next.id);
          expect(waiting.filter(({ sessionId }) => sessionId === next.sessionId)[0]).toBe(next);
          expect(running.some(({ sessionId }) => sessionId === next.sessionId)).toBe(false);
          waiting.splice(waiting.indexOf(next), 1);
          running.push(next);
          expect(running.length <= 4 && running.filter(({ ownerId }) => ownerId === next.ownerId).length <= 2).toBe(true);
        };
        for (const [i, { session, owner, priority, take: takes, remove }] of steps.entries()) {
          const turn = { id: `t${i}`, sessionId: `${owner}.${session}`, ownerId: `${owner}`, priority, since: i };
          queue.add(turn);
          waiting.push(turn);
          if (remove && i % 3 === 0) {
            expect(queue.remove(turn.id)).toBe(true);
            waiting.pop();
          }
          if (takes) take(i);
          const ended = i % 4 === 0 ? running.shift() : undefined;
          if (ended !== undefined) queue.done(ended);
        }
        for (let i = 0; queue.size > 0 || running.length > 0; i += 1) {
          take(steps.length + i);
          const ended = running.shift();
          if (ended !== undefined) queue.done(ended);
        }
        expect(new Set(begun).size).toBe(begun.length);
        expect(waiting).toEqual([]);
      }),
      { numRuns: 300 },
    );
  },
);
