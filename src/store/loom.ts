// Loom's part of the store, put together. Each table has its owner: loom-*.ts. Invariant: what a turn wrote in one transaction is there whole
// or not at all, as everywhere in the store.

import { type Blobs, blobsOf } from "./loom-blobs.ts";
import { type Money, moneyOf } from "./loom-money.ts";
import { type Sessions, sessionsOf } from "./loom-sessions.ts";
import { type Spell, sqlOf } from "./loom-sql.ts";
import { type Tree, treeOf } from "./loom-tree.ts";
import { type Turns, turnsOf } from "./loom-turns.ts";
import { type Worlds, worldsOf } from "./loom-worlds.ts";
import type { Db } from "./tables.ts";

export interface LoomTables {
  readonly worlds: Worlds;
  readonly blobs: Blobs;
  readonly sessions: Sessions;
  readonly tree: Tree;
  readonly turns: Turns;
  readonly money: Money;
}

export function loomOf(db: Db, spell: Spell): LoomTables {
  const sql = sqlOf(db, spell);
  const said = { worlds: worldsOf(sql), blobs: blobsOf(sql), sessions: sessionsOf(sql) };
  return { ...said, tree: treeOf(sql), turns: turnsOf(sql), money: moneyOf(sql) };
}
