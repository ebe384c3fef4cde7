// When what SQLite wrote is on the disk: one fsync of the log for all commits since the last, beside the event loop, and only where somebody
// waits for it. SQLite's own `full` syncs each commit and holds the loop meanwhile. Not a lock and not a checkpoint: those stay SQLite's.
// Invariant: `settled` resolves after an fsync that began when everything written before the call was in the log; one that fails makes all
// later calls fail, for the kernel may have dropped what it could not write.

import { closeSync, fsync, fsyncSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { CorralError } from "../api/errors.ts";

const onDisk = promisify(fsync);

export type SyncLog = () => Promise<void>;

export class WalSync {
  readonly #sync: SyncLog;
  #written = 0;
  #settled = 0;
  #running: Promise<void> | undefined;

  constructor(sync: SyncLog) {
    this.#sync = sync;
  }

  /** Call it after each statement that may have written. */
  wrote(): void {
    this.#written += 1;
  }

  /** Throws `store_unavailable` when the disk refused. */
  async settled(): Promise<void> {
    const wanted = this.#written;
    while (this.#settled < wanted) await (this.#running ??= this.#run());
  }

  async #run(): Promise<void> {
    const upTo = this.#written;
    try {
      await this.#sync();
    } catch (cause) {
      // `#running` stays: whoever comes later is told the same.
      throw new CorralError(
        "store_unavailable",
        `the disk did not take the last changes: ${(cause as Error).message}; look at the disk, then start the server again`,
        { cause },
      );
    }
    this.#settled = upTo;
    this.#running = undefined;
  }
}

/** The log beside a database file. It holds no locks, so that opening and closing it releases none of SQLite's. */
export function walOf(file: string): { readonly sync: SyncLog; readonly close: () => void } {
  let fd: number | undefined;
  return {
    sync: async () => {
      fd ??= openLog(file);
      await onDisk(fd);
    },
    close: () => {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}

function openLog(file: string): number {
  const directory = openSync(dirname(file), "r");
  try {
    fsyncSync(directory); // its name, too
  } finally {
    closeSync(directory);
  }
  return openSync(`${file}-wal`, "r");
}
