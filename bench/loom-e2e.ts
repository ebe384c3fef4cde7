// What Loom adds to a model's own time: a turn from sending to its end with a model that answers at once, alone and with 200 sessions at a time,
// ten turns from the first to the last, what they leave on disk, a fork behind 500 turns, a canon of a megabyte. In this process, SQLite with
// every commit on the disk before it is answered. No peer: nothing else keeps the same promises.

import { statSync } from "node:fs";
import { join } from "node:path";
import { systemAlarms } from "../src/base/alarm.ts";
import { systemClock } from "../src/base/clock.ts";
import { compileCanon } from "../src/loom/canon/compile.ts";
import { scriptedModel } from "../src/loom/models/scripted.ts";
import { History } from "../src/loom/session/history.ts";
import { Engine } from "../src/loom/turn/engine.ts";
import { ENGINE_DEFAULTS, type EngineParts } from "../src/loom/turn/parts.ts";
import { textHash } from "../src/store/loom-blobs.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { type Bench, row } from "./bench.ts";

const CANON = `---\nname: bench\nversion: 1\nkind: agent\n---\n# Rules\n${"Answer what is asked, in order. ".repeat(200)}\n`;
const ID = "loom-e2e";
const ACTOR = "bench";

function partsOver(store: Store): EngineParts {
  let made = 0;
  return {
    ...{ store, clock: systemClock, alarms: systemAlarms, route: () => [scriptedModel()], prices: new Map(), writer: "bench" },
    ...{ isDead: () => Promise.resolve(false), newId: (noun: string) => `${noun}${++made}`, random: Math.random },
    config: { ...ENGINE_DEFAULTS, perOwner: 256 },
    onError: (error) => {
      throw error;
    },
  };
}

async function sessionsOf(store: Store, count: number): Promise<readonly string[]> {
  const ids = Array.from({ length: count }, (_, i) => `ses${i}`);
  await store.transaction(async ({ loom }) => {
    await loom.worlds.add({ id: "wld", ownerId: ACTOR, name: "bench", kind: "agent", createdAt: 0 });
    const [hash = ""] = await loom.blobs.put("wld", [CANON]);
    await loom.worlds.addCanon({ id: "can", worldId: "wld", hash: textHash(CANON), files: { "main.md": hash }, lint: [], createdAt: 0 });
    const fixed = { worldId: "wld", ownerId: ACTOR, name: "s", type: "chat", canonId: "can", config: {}, seed: "s", createdAt: 0 };
    await loom.sessions.add(ids.map((id) => ({ id, branchId: `br${id}`, ...fixed })));
  });
  return ids;
}

async function played(engine: Engine, sessionId: string): Promise<number> {
  const begin = performance.now();
  const { turn } = await engine.send({ sessionId, actor: ACTOR, input: "Open the gate, walk on, and tell what is behind it. ".repeat(4) });
  const { state, error } = await engine.ended(turn.id);
  if (state !== "done") throw new Error(error?.message ?? state);
  return performance.now() - begin;
}

/** Of one of many turns of one session, when the log is back in the file. */
async function diskOf(scratch: string, quick: boolean): Promise<number> {
  const file = join(scratch, "disk.db");
  const turns = quick ? 50 : 500;
  let before = 0;
  {
    await using store = await openStore({ kind: "sqlite", file });
    await sessionsOf(store, 1);
  }
  before = statSync(file).size;
  {
    await using store = await openStore({ kind: "sqlite", file });
    await using engine = new Engine(partsOver(store));
    for (let i = 0; i < turns; i += 1) await played(engine, "ses0");
  }
  return (statSync(file).size - before) / 1024 / turns;
}

/** 600 sections, 1,800 directives. */
function canonOfMegabyte(): string {
  const text = `${"The rain fell on the stones, and nobody counted the lamps. ".repeat(4)}\n`.repeat(7);
  const section = (i: number): string => `# Section ${i}\n${text}{{if:deep}}\nIt is deep.\n{{else}}\nIt is not.\n{{endif}}\n`;
  return `---\nversion: 1\nkind: agent\nvars: { deep: true }\n---\n${Array.from({ length: 600 }, (_, i) => section(i)).join("")}`;
}

export const bench: Bench = {
  id: ID,
  what: "what Loom adds to a model's own time, a turn and ten turns; a fork; a canon of a megabyte",
  async *run({ quick, scratch, progress }) {
    const file = join(scratch, "loom.db");
    await using store = await openStore({ kind: "sqlite", file });
    const parts = partsOver(store);
    await using engine = new Engine(parts);
    const [alone = "", ...many] = await sessionsOf(store, 201);
    progress("one session", 0, 3);
    const single: number[] = [];
    const tens: number[] = [];
    for (let ten = 0; ten < (quick ? 5 : 50); ten += 1) {
      const begin = performance.now();
      for (let i = 0; i < 10; i += 1) single.push(await played(engine, alone));
      tens.push(performance.now() - begin);
    }
    yield row({ id: ID, metric: "a turn alone, without the model's time", unit: "ms", samples: single, target: "p95 < 10" });
    yield row({ id: ID, metric: "ten turns, the first to the last", unit: "ms", samples: tens, target: "< 100 and the model's time" });
    yield row({
      id: ID,
      metric: "on disk when closed, receipts included, a turn",
      unit: "KiB",
      samples: [await diskOf(scratch, quick)],
      target: "< 6",
    });
    progress("200 sessions", 1, 3);
    const rates: number[] = [];
    for (let round = 0; round < (quick ? 2 : 10); round += 1) {
      const begin = performance.now();
      await Promise.all(many.map((id) => played(engine, id)));
      rates.push(many.length / ((performance.now() - begin) / 1000));
    }
    yield row({ id: ID, metric: "turns a second, 200 sessions at a time", unit: "1/s", samples: rates, target: "> 1,000" });
    progress("forks and canons", 2, 3);
    const history = new History(parts);
    const forks: number[] = [];
    for (let i = 0; i < 20; i += 1) {
      const begin = performance.now();
      await history.fork({ sessionId: alone, actor: ACTOR }, { name: `b${i}` });
      forks.push(performance.now() - begin);
    }
    yield row({ id: ID, metric: `a fork behind ${single.length} turns, on the disk`, unit: "ms", samples: forks, target: "< 5" });
    const text = canonOfMegabyte();
    const files = new Map([["main.md", text]]);
    const canons: number[] = [];
    for (let i = 0; i < (quick ? 5 : 20); i += 1) {
      const begin = process.cpuUsage();
      compileCanon({ files });
      const { user, system } = process.cpuUsage(begin);
      canons.push((user + system) / 1000);
    }
    const metric = `a canon of ${(text.length / 1024 ** 2).toFixed(1)} MB read and checked, processor time`;
    yield row({ id: ID, metric, unit: "ms", samples: canons, target: "p95 < 20" });
  },
};
