// One server for one data directory: a lock that the kernel gives back when its process dies, however it dies.
// Not the journal's lock: that one is the spawner's. Invariant: two living processes never both hold it.

import { DatabaseSync } from "node:sqlite";
import { CorralError } from "../api/errors.ts";

/** Takes the lock on `file`, which is made when absent. Throws `data_locked`. */
export function holdOwnerLock(file: string): Disposable {
  const database = new DatabaseSync(file);
  try {
    // Node.js has no flock; SQLite's own file lock is one, and an open exclusive transaction holds it.
    database.exec("pragma busy_timeout = 0; begin exclusive");
  } catch (cause) {
    database.close();
    throw new CorralError("data_locked", "another corral serve owns this data directory; use it, or give another with --data DIR", {
      cause,
    });
  }
  return { [Symbol.dispose]: () => database.close() };
}
