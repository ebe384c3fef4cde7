// How commands of this machine find the server over a data directory: a file in it with the address and a key of its own, readable by the
// directory's owner alone. Not how others log in. Invariant: the key is one start's: it is revoked when the server ends, and what a
// killed server left is revoked at the next start.

import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../base/atomic-file.ts";
import type { Clock } from "../base/clock.ts";
import { identify, isAlive, type ProcessIdentity } from "../base/process-identity.ts";
import type { Store } from "../store/store.ts";

export interface LocalDoor {
  readonly url: string;
  readonly key: string;
}

interface DoorParts {
  /** The data directory. */
  readonly root: string;
  readonly store: Store;
  readonly clock: Clock;
  /** Names this directory's keys among those of a shared store. */
  readonly nodeId: string;
}

const FILE = "server.json";

/** Writes the file; disposed of, the file is gone and its key holds no more. */
export async function openLocalDoor(url: string, { root, store, clock, nodeId }: DoorParts): Promise<AsyncDisposable> {
  const ownerId = `local-${nodeId}`;
  const revokeAll = async (): Promise<void> => {
    for (const { id } of await store.tokens.list(ownerId)) await store.tokens.revoke(ownerId, id, clock.wallMs());
  };
  await revokeAll();
  const { secret } = await store.tokens.issue({ ownerId, scope: "admin", name: "commands of this machine", now: clock.wallMs() });
  const file = join(root, FILE);
  // SAFETY: the key opens everything; the directory belongs to one user, and so does the file.
  writeFileAtomic(file, JSON.stringify({ url, key: secret, process: identify(process.pid) }), { mode: 0o600 });
  return {
    [Symbol.asyncDispose]: async () => {
      rmSync(file, { force: true });
      await revokeAll();
    },
  };
}

/** `undefined` when no server of this directory lives. */
export function findLocalDoor(root: string): LocalDoor | undefined {
  try {
    const { url, key, process: owner } = JSON.parse(readFileSync(join(root, FILE), "utf8")) as LocalDoor & { process: ProcessIdentity };
    return isAlive(owner) ? { url, key } : undefined;
  } catch {
    return undefined; // none was started, or one is being started
  }
}
