// One small file per sandbox that exists in the kernel, written before the kernel is touched: what clearing up takes. Where sandboxes outlive
// their process a second line follows once a sandbox is whole: what the next process needs to go on with it. What a person sees of a sandbox
// stands elsewhere. Not a lock by itself: the spawner holds `flock` on the file while the sandbox lives, so it is written to in place.
// Invariant: a sandbox without a journal file has no kernel object; a file that is neither locked nor of a living maker is to be reaped;
// one without a whole second line was still being made.

import { appendFileSync, readdirSync, readFileSync, statSync } from "node:fs";
import { unlink } from "node:fs/promises";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import type { CreateRequest, SandboxInfo } from "../api/sandbox.ts";
import { isDraft, writeFileAtomic } from "../base/atomic-file.ts";
import type { ProcessIdentity } from "../base/process-identity.ts";

export interface JournalEntry {
  readonly version: 2;
  readonly id: string;
  /** The process that the sandbox lives as long as: the one that made it, or a spawner that outlives that. While it lives, a file that is not locked yet (or no longer) is its own business. */
  readonly maker: ProcessIdentity;
  readonly runtime: string;
  readonly createdAt: string;
  /** What becomes of the delta when the run is cut off: an ephemeral one is kept a day, a kept one stays. */
  readonly delta: "ephemeral" | "keep";
}

/** What was asked for and what came of it. It holds the environment, so the file is for its owner alone. */
export interface MadeRecord {
  readonly request: CreateRequest;
  readonly info: Omit<SandboxInfo, "state">;
  /** The files that hold its masks (`PreparedView.use`). */
  readonly uses: readonly string[];
  /** It was started ahead: its own environment is not in its PID 1. */
  readonly late?: true;
}

export interface FoundEntry extends JournalEntry {
  readonly made?: MadeRecord;
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
    writeFileAtomic(file, line(entry), { mode: 0o600 });
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

/** The sandbox is whole. Throws where the disk is full. */
export function appendMade(dir: string, id: string, made: MadeRecord): void {
  appendFileSync(journalFile(dir, id), line(made));
}

function line(record: JournalEntry | MadeRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** Beside the event loop: an unlink waits as long as the disk's own log is being written. */
export async function removeJournal(dir: string, id: string): Promise<void> {
  try {
    await unlink(journalFile(dir, id));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

export interface JournalListing {
  readonly entries: readonly FoundEntry[];
  /** Files that are no journal: drafts of a killed writer, or damaged. Full paths. */
  readonly broken: readonly string[];
}

export function listJournal(dir: string): JournalListing {
  const entries: FoundEntry[] = [];
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

function readEntry(file: string, name: string): FoundEntry | "gone" | undefined {
  try {
    const [first = "", second = ""] = readFileSync(file, "utf8").split("\n");
    const entry = JSON.parse(first) as Partial<JournalEntry>;
    // SAFETY: the id names cgroups, sockets and directories to be removed; only one of our own spelling may.
    if (entry.version !== 2 || typeof entry.id !== "string" || !isId("sandbox", entry.id) || name !== `${entry.id}${SUFFIX}`)
      return undefined;
    if (typeof entry.maker?.pid !== "number") return undefined;
    const made = readMade(second, entry.id);
    return { ...(entry as JournalEntry), ...(made === undefined ? {} : { made }) };
  } catch (error) {
    // Another process ended its sandbox between the listing and now.
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "gone" : undefined;
  }
}

/** A writer that was killed leaves a part of a line, which is none. */
function readMade(text: string, id: string): MadeRecord | undefined {
  try {
    const made = JSON.parse(text) as Partial<MadeRecord>;
    return made.info?.id === id && Array.isArray(made.uses) ? (made as MadeRecord) : undefined;
  } catch {
    return undefined;
  }
}
