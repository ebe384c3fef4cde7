// Which ids this user may map into a user namespace: /etc/subuid, /etc/subgid and the two setuid helpers that know how.
// Only reads; the spawner maps. Invariant: without two ranges and both helpers the answer is a reason and the command that mends it.

import { accessSync, constants, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import type { IdRange } from "./spawner.ts";

export interface SubIds {
  readonly uids: readonly IdRange[];
  readonly gids: readonly IdRange[];
  /** Ids beside the caller's own, from 1 on. */
  readonly count: number;
}

/** What a sandbox wants: its user, nobody (65534) and system ids of the template. */
const WANTED = 65_536;
/** uid 0 inside and one ordinary user. */
const LEAST = 2;
const HELPER_DIRS = ["/usr/bin", "/bin", "/usr/local/bin"];

export function findSubIds(): SubIds | { readonly reason: string } {
  const { username, uid } = userInfo();
  const helper = ["newuidmap", "newgidmap"].find((name) => !HELPER_DIRS.some((dir) => executable(`${dir}/${name}`)));
  if (helper !== undefined)
    return { reason: `${helper} is not installed, so a user namespace would hold one id alone; run: sudo apt-get install uidmap` };
  const uids = largest("/etc/subuid", username, uid);
  const gids = largest("/etc/subgid", username, uid);
  const count = Math.min(uids?.count ?? 0, gids?.count ?? 0, WANTED);
  if (uids === undefined || gids === undefined || count < LEAST) {
    return {
      reason: `no range of sub-ids is given to ${username}; run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username}`,
    };
  }
  return { uids: [{ inside: 1, outside: uids.start, count }], gids: [{ inside: 1, outside: gids.start, count }], count };
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function largest(file: string, username: string, uid: number): { start: number; count: number } | undefined {
  let text: string;
  try {
    text = readFileSync(file, "latin1");
  } catch {
    return undefined; // absent: nobody has a range
  }
  return parseSubIds(text, username, uid);
}

export function parseSubIds(text: string, username: string, uid: number): { start: number; count: number } | undefined {
  let best: { start: number; count: number } | undefined;
  for (const line of text.split("\n")) {
    const [owner, start, count] = line.split(":");
    if (owner !== username && owner !== String(uid)) continue;
    if (!/^\d+$/.test(start ?? "") || !/^\d+$/.test(count ?? "")) continue;
    const range = { start: Number(start), count: Number(count) };
    if (best === undefined || range.count > best.count) best = range;
  }
  return best;
}
