// `corral top`: what the sandboxes of a server take, drawn again and again on a terminal, else once. Invariant: it resumes and changes
// nothing; a sandbox that ends while it is asked for is left out.

import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../api/client.ts";
import { errorCode } from "../../api/errors.ts";
import type { SandboxMetrics } from "../../api/metrics.ts";
import type { SandboxResource } from "../../api/server.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { interruption } from "../interrupt.ts";
import { everyItem } from "../pages.ts";
import { print } from "../streams.ts";
import { table } from "../table.ts";
import { formatSize, formatMs, parseDuration } from "../units.ts";

/** Sandboxes that are asked for at once. */
const AT_ONCE = 8;
const HOME_AND_CLEAR = "\x1b[H\x1b[J";

export interface TopOptions {
  readonly once?: boolean;
  readonly json?: boolean;
  readonly every: string;
}

interface Line {
  readonly sandbox: SandboxResource;
  readonly metrics: SandboxMetrics;
}

export async function top(client: Client, { once, json, every }: TopOptions): Promise<number> {
  const pauseMs = parseDuration(every, "--every");
  using stop = interruption();
  const isLive = once !== true && (json === true || process.stdout.isTTY);
  let before = new Map<string, Line>();
  for (;;) {
    const lines = await look(client);
    if (json === true) await print(`${JSON.stringify(lines.map(({ sandbox, metrics }) => ({ ownerId: sandbox.ownerId, ...metrics })))}\n`);
    else await print(`${isLive ? HOME_AND_CLEAR : ""}${drawn(lines, before)}`);
    before = new Map(lines.map((line) => [line.sandbox.id, line]));
    if (isLive) await sleep(pauseMs, undefined, { signal: stop.soft }).catch(() => undefined); // asked to end
    if (!isLive || stop.soft.aborted) return EXIT_OK;
  }
}

async function look(client: Client): Promise<readonly Line[]> {
  const found: SandboxResource[] = [];
  for await (const one of everyItem((page) => client.list(page))) if (one.state === "running" || one.state === "paused") found.push(one);
  const lines: Line[] = [];
  for (let at = 0; at < found.length; at += AT_ONCE) {
    const some = await Promise.all(found.slice(at, at + AT_ONCE).map((sandbox) => lineOf(client, sandbox)));
    lines.push(...some.filter((line) => line !== undefined));
  }
  return lines;
}

async function lineOf(client: Client, sandbox: SandboxResource): Promise<Line | undefined> {
  try {
    return { sandbox, metrics: await client.sandbox(sandbox.id).metrics() };
  } catch (error) {
    if (["sandbox_not_found", "sandbox_lost", "sandbox_state"].includes(errorCode(error) ?? "")) return undefined;
    throw error;
  }
}

function drawn(lines: readonly Line[], before: ReadonlyMap<string, Line>): string {
  const rows = lines.map(({ sandbox: { id, ownerId }, metrics }) => {
    const { state, cpu, memory, pids, io, disk, limits } = metrics;
    return [
      id,
      ownerId,
      state,
      cpuShare(metrics, before.get(id)?.metrics),
      cpu === null ? "-" : formatMs(cpu.usedMs),
      memory === null ? "-" : `${formatSize(memory.bytes)}${limits === null ? "" : ` / ${formatSize(limits.memoryBytes)}`}`,
      memory?.peakBytes === null || memory === null ? "-" : formatSize(memory.peakBytes),
      pids === null ? "-" : String(pids.count),
      io === null ? "-" : `${formatSize(io.readBytes)} / ${formatSize(io.writtenBytes)}`,
      disk === null ? "-" : formatSize(disk.bytes),
    ];
  });
  return table(["ID", "OWNER", "STATE", "CPU", "CPU TIME", "MEMORY", "PEAK", "PIDS", "READ / WRITTEN", "DELTA"], rows);
}

/** Of one core, since it was drawn before. */
function cpuShare({ at, cpu }: SandboxMetrics, before: SandboxMetrics | undefined): string {
  if (cpu === null || before === undefined || before.cpu === null) return "-";
  const passedMs = Date.parse(at) - Date.parse(before.at);
  return passedMs <= 0 ? "-" : `${Math.max(0, Math.round((100 * (cpu.usedMs - before.cpu.usedMs)) / passedMs))} %`;
}
