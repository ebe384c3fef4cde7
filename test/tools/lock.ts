// Keeps package-lock.json such that `npm ci` takes it. npm leaves packages of other platforms out of the lock when its registry lacks
// them, yet names them in `optionalDependencies` of their parents, and then refuses its own file. Corral runs on Linux x64 and arm64:
// names that the lock does not hold are dropped. Invariant: only names are dropped, never a package that the lock holds.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { read, ROOT } from "./tree.ts";

interface Locked {
  optionalDependencies?: Record<string, string>;
}

/** Whether Node.js's search from the package at `from` finds `name`: its own node_modules, then each parent's. */
function holds(packages: Readonly<Record<string, Locked>>, from: string, name: string): boolean {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    if (packages[`${at === "" ? "" : `${at}/`}node_modules/${name}`] !== undefined) return true;
    if (at === "") return false;
  }
}

/** The lock file without names that it does not hold, and those names. */
export function prunedLock(text = read("package-lock.json")): { dropped: string[]; text: string } {
  const lock = JSON.parse(text) as { packages: Record<string, Locked> };
  const dropped: string[] = [];
  for (const [path, locked] of Object.entries(lock.packages)) {
    const optional = locked.optionalDependencies;
    if (optional === undefined) continue;
    for (const name of Object.keys(optional)) {
      if (holds(lock.packages, path, name)) continue;
      delete optional[name];
      dropped.push(name);
    }
    if (Object.keys(optional).length === 0) delete locked.optionalDependencies;
  }
  return { dropped, text: `${JSON.stringify(lock, null, 2)}\n` };
}

export function writeLock(text: string): void {
  writeFileSync(join(ROOT, "package-lock.json"), text);
}
