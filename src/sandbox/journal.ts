// One small file per sandbox that exists in the kernel, written before the kernel is touched. Knows kernel objects alone:
// what a person sees of a sandbox stands elsewhere. Not a lock by itself: the spawner holds `flock` on the file while the sandbox lives.
// Invariant: a sandbox without a journal file has no kernel object; a file that is neither locked nor of a living maker is to be reaped.

import { readdirSync, readFileSync, statSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import { isDraft, writeFileAtomic } from "../base/atomic-file.ts";
import type { ProcessIdentity } from "../base/process-identity.ts";

export interface JournalEntry {
  readonly version: 1;
  readonly id: string;
  /** The process that made the sandbox. While it lives, a file that is not locked yet (or no longer) is its own business. */
  readonly maker: ProcessIdentity;
  readonly runtime: string;
  readonly createdAt: string;
  /** What becomes of the delta when the run is cut off: an ephemeral one is kept a day, a kept one stays. */
  readonly delta: "ephemeral" | "keep";
}

const SUFFIX = ".json";
/** Writing a journal takes less than a millisecond; a draft of this age has no writer, ms. */
const DRAFT_MS = 60_000;

export function journalFile(dir: string, id: string): string {
  return join(dir, `${id}${SUFFIX}`);
}

/** No fsync: kernel objects do not survive a power loss, so neither need their record. */
export function writeJournal(dir: string, entry: JournalEntry): string {
  const file = journalFile(dir, entry.id);
  try {
    writeFileAtomic(file, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOSPC" || code === "EDQUOT")
      throw new CorralError("disk_full", "the disk that holds the data directory is full; free some space or use --data DIR", {
        cause: error,
      });
    throw error;
  }
  return file;
}

export function removeJournal(dir: string, id: string): void {
  try {
    unlinkSync(journalFile(dir, id));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

export interface JournalListing {
  readonly entries: readonly JournalEntry[];
  /** Files that are no journal: drafts of a killed writer, or damaged. Full paths. */
  readonly broken: readonly string[];
}

export function listJournal(dir: string): JournalListing {
  const entries: JournalEntry[] = [];
  const broken: string[] = [];
  for (const name of readdirSync(dir)) {
    const file = join(dir, name);
    if (isDraft(name) && !isOld(file)) continue;
    const entry = isDraft(name) ? undefined : readEntry(file, name);
    if (entry === "gone") continue;
    if (entry === undefined) broken.push(file);
    else entries.push(entry);
  }
  return { entries, broken };
}

/** Younger drafts may be of a writer that is about to finish. */
function isOld(file: string): boolean {
  const stats = statSync(file, { throwIfNoEntry: false });
  return stats !== undefined && Date.now() - stats.mtimeMs > DRAFT_MS;
}

function readEntry(file: string, name: string): JournalEntry | "gone" | undefined {
  try {
    const entry = JSON.parse(readFileSync(file, "utf8")) as Partial<JournalEntry>;
    // SAFETY: the id names cgroups, sockets and directories to be removed; only one of our own spelling may.
    if (entry.version !== 1 || typeof entry.id !== "string" || !isId("sandbox", entry.id) || name !== `${entry.id}${SUFFIX}`)
      return undefined;
    if (typeof entry.maker?.pid !== "number") return undefined;
    return entry as JournalEntry;
  } catch (error) {
    // Another process ended its sandbox between the listing and now.
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "gone" : undefined;
  }
}
