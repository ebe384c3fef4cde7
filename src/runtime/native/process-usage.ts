// What a process and all that descends from it take, from /proc: for machines that give a sandbox no cgroup to count it. Not exact: the
// tree moves while it is read. Invariant: a process counts only when its parent was counted, so a pid that another got meanwhile adds
// nothing; the walk is bounded and gives way to other work.

import { readdirSync, readFileSync } from "node:fs";
import { setImmediate as others } from "node:timers/promises";

/** Threads together; larger trees are not counted. */
const MAX_TASKS = 4_096;
/** Processes that are read at a stretch. */
const STRETCH = 32;
/** `USER_HZ`, which Linux shows as 100 on every machine. */
const MS_PER_TICK = 10;
const KIB = 1_024;

export interface ProcessUsage {
  readonly cpuMs: number;
  readonly memoryBytes: number;
  readonly tasks: number;
  /** `null`: this process may not see it. */
  readonly io: { readonly readBytes: number; readonly writtenBytes: number } | null;
}

interface One extends ProcessUsage {
  readonly parent: number;
  readonly children: readonly number[];
}

/** `undefined`: the first is gone, the tree is too large, or this kernel tells no children. */
export async function processUsage(first: number): Promise<ProcessUsage | undefined> {
  const sum = { cpuMs: 0, memoryBytes: 0, tasks: 0, readBytes: 0, writtenBytes: 0, toldIo: true };
  const counted = new Set<number>();
  const todo = [first];
  for (let pid = todo.pop(); pid !== undefined; pid = todo.pop()) {
    const one = counted.has(pid) ? undefined : look(pid);
    if (one === undefined && pid === first) return undefined;
    if (one === undefined || (pid !== first && !counted.has(one.parent))) continue;
    counted.add(pid);
    todo.push(...one.children);
    sum.cpuMs += one.cpuMs;
    sum.memoryBytes += one.memoryBytes;
    sum.tasks += one.tasks;
    sum.readBytes += one.io?.readBytes ?? 0;
    sum.writtenBytes += one.io?.writtenBytes ?? 0;
    if (one.io === null) sum.toldIo = false;
    if (sum.tasks > MAX_TASKS) return undefined;
    if (counted.size % STRETCH === 0) await others();
  }
  const { cpuMs, memoryBytes, tasks, readBytes, writtenBytes, toldIo } = sum;
  return { cpuMs, memoryBytes, tasks, io: toldIo ? { readBytes, writtenBytes } : null };
}

/** `undefined`: it is gone. Its times and traffic hold those of children that it waited for. */
function look(pid: number): One | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name in parentheses may hold spaces and parentheses; fields are counted from its last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const tasks = readdirSync(`/proc/${pid}/task`);
    const children = tasks.flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, "latin1").split(" "));
    return {
      parent: Number(fields[1]),
      children: children.filter((word) => word !== "").map(Number),
      cpuMs: fields.slice(11, 15).reduce((ticks, field) => ticks + Number(field), 0) * MS_PER_TICK,
      memoryBytes: Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) * KIB,
      tasks: tasks.length,
      io: ioOf(pid),
    };
  } catch {
    return undefined;
  }
}

function ioOf(pid: number): ProcessUsage["io"] {
  try {
    const text = readFileSync(`/proc/${pid}/io`, "latin1");
    const bytes = (name: string): number => Number(new RegExp(`^${name}: (\\d+)`, "m").exec(text)?.[1] ?? 0);
    return { readBytes: bytes("read_bytes"), writtenBytes: bytes("write_bytes") };
  } catch {
    return null;
  }
}
