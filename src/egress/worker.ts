// The proxy as a process: orders come by stdin, verdicts and answers go out by stdout. Started by proxy.ts alone.
// Invariant: it serves nobody before its ids are given up, and ends with its stdin; then every socket of it refuses.

import { systemClock } from "../base/clock.ts";
import { ProxyCore } from "./core.ts";
import type { Outside } from "./outside.ts";
import { NEWS_MS } from "./limits.ts";
import { lines, type Numbered, type StartOrder, type Told } from "./wire.ts";

/** Resolves when stdin has ended. `outsideOf`: tests hand over another network; `undefined` are the machine's own resolvers. */
export async function runWorker(outsideOf: (resolvers: readonly string[] | undefined) => Outside): Promise<void> {
  let core: ProxyCore | undefined;
  for await (const line of lines(process.stdin)) {
    const order = JSON.parse(line) as Numbered;
    try {
      if (order.do === "start") core = start(order, outsideOf(order.resolvers));
      else if (core === undefined) throw new Error("not started");
      tell({ done: order.seq, ...(order.do === "start" || core === undefined ? {} : await obey(core, order)) });
    } catch (error) {
      tell({ done: order.seq, error: error instanceof Error ? error.message : String(error) });
    }
  }
  process.exit(0);
}

function start({ authority, upstreamCa, id }: StartOrder, outside: Outside): ProxyCore {
  if (id !== undefined) giveUp(id);
  const core = new ProxyCore({ authority, upstreamCa, outside, clock: systemClock, onVerdict: (verdict) => tell({ verdict }) });
  setInterval(() => {
    const news = core.news();
    if (news.length > 0) tell({ news });
  }, NEWS_MS);
  return core;
}

/** SAFETY: from root to an id that owns nothing; with the ids go the rights that were kept to change them. */
function giveUp(id: number): void {
  process.setgroups?.([]);
  process.setgid?.(id);
  process.setuid?.(id);
  if (process.getuid?.() !== id || process.geteuid?.() !== id || process.getegid?.() !== id) throw new Error("the ids were not given up");
}

async function obey(core: ProxyCore, order: Exclude<Numbered, StartOrder>): Promise<Partial<Extract<Told, { done: number }>>> {
  if (order.do === "metrics") return { metrics: core.metrics() };
  if (order.do === "close") await core.close(order.sandbox);
  else if (order.do === "update") core.update(order.sandbox, order.state);
  else await core.open(order.sandbox, order.sandbox, order.state);
  return {};
}

function tell(told: Told): void {
  process.stdout.write(`${JSON.stringify(told)}\n`);
}
