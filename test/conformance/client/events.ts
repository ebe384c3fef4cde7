// Rows of the client suite: what happened, by pages and as it happens.

import { expect } from "vitest";
import type { EventResource } from "../../../src/api/events.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf } from "./lab.ts";

async function take(events: AsyncIterable<EventResource>, count: number): Promise<readonly EventResource[]> {
  const taken: EventResource[] = [];
  for await (const event of events) if (taken.push(event) >= count) break;
  return taken;
}

export function eventRows(lab: () => ClientLab): void {
  verifies("client/events-follow", "who follows is told each event once, in order, from where they ask", async () => {
    const ann = await lab().of("ann");
    const first = await lab().make();
    const [made] = (await ann.events.list({ sandboxId: first.id })).items;
    const stop = new AbortController();
    const waiting = take(ann.events.follow({ after: made?.id ?? "0", signal: stop.signal }), 4);
    const second = await lab().make();
    await second.renew(null);
    await first.destroy();
    await second.destroy();
    expect((await waiting).map(({ kind, subjectId, ownerId }) => [kind, subjectId, ownerId])).toEqual([
      ["sandbox-create", second.id, "ann"],
      ["sandbox-renew", second.id, "ann"],
      ["sandbox-destroy", first.id, "ann"],
      ["sandbox-destroy", second.id, "ann"],
    ]);
    const kinds = ["sandbox-destroy"];
    expect((await take(ann.events.follow({ after: "0", sandboxId: first.id, kinds }), 1)).map(({ kind }) => kind)).toEqual(kinds);
    const idle = take(ann.events.follow({ signal: stop.signal }), 1);
    stop.abort();
    expect(await codeOf(idle)).toBe("canceled");
  });

  verifies("client/events-pages", "events that are kept are told by pages, each once", async () => {
    const ann = await lab().of("ann");
    const sandbox = await lab().make();
    for (let count = 0; count < 4; count++) await sandbox.renew(60_000);
    const seen: string[] = [];
    for (let cursor: string | undefined = "0"; cursor !== undefined; ) {
      const page: Awaited<ReturnType<typeof ann.events.list>> = await ann.events.list({ cursor, limit: 2, sandboxId: sandbox.id });
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.next;
    }
    expect(seen.length).toBe(5);
    expect(seen).toEqual([...new Set(seen)].sort((a, b) => Number(a) - Number(b)));
    expect(await codeOf(ann.events.list({ cursor: "x" }))).toBe("request_invalid");
  });

  verifies("client/events-owners", "events are their owner's, and a key for one sandbox is told of that one alone", async () => {
    const [ann, bob] = [await lab().of("ann"), await lab().of("bob")];
    const [mine, other] = [await lab().make(), await lab().make()];
    const narrow = await lab().ofSandbox("ann", mine.id);
    await mine.renew(60_000);
    const subjects = async (client: typeof ann): Promise<Set<string>> =>
      new Set((await client.events.list()).items.map((event) => event.subjectId));
    expect(await subjects(narrow)).toEqual(new Set([mine.id]));
    expect(await subjects(bob)).not.toContain(mine.id);
    expect((await bob.events.list({ sandboxId: mine.id })).items).toEqual([]);
    expect((await lab().admin.events.list({ sandboxId: mine.id })).items.length).toBe(2);
    expect(await codeOf(narrow.events.list({ sandboxId: other.id }))).toBe("forbidden");
    expect(await codeOf(take(narrow.events.follow({ sandboxId: other.id }), 1))).toBe("forbidden");
    expect((await take(narrow.events.follow({ after: "0" }), 2)).map(({ subjectId }) => subjectId)).toEqual([mine.id, mine.id]);
  });
}
