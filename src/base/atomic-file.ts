// Writes a file so that a reader sees the old content or the new, never a part. Not a lock: of two writers the later one wins, or with
// `createFileAtomic` the first one.
// Invariant: the name points to complete content at every moment, also after a kill; after a power loss only with `sync`.

import { closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { randomText } from "./random-text.ts";

export interface AtomicOptions {
  readonly mode?: number;
  /** Also survive a power loss: two fsyncs, milliseconds each. Without, a kill of any process is survived. */
  readonly sync?: boolean;
}

export function writeFileAtomic(file: string, content: string | Uint8Array, options: AtomicOptions = {}): void {
  viaDraft(file, content, { ...options, put: (draft) => renameSync(draft, file) });
}

/** False: the name is there already, and what it holds stays. */
export function createFileAtomic(file: string, content: string | Uint8Array, options: AtomicOptions = {}): boolean {
  try {
    const put = (draft: string): void => {
      linkSync(draft, file);
      rmSync(draft);
    };
    viaDraft(file, content, { ...options, put });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function viaDraft(file: string, content: string | Uint8Array, options: AtomicOptions & { readonly put: (draft: string) => void }): void {
  const draft = `${file}.${randomText(8)}.tmp`;
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  try {
    // "wx": a draft that somebody else planted is an error, never a file that we write through.
    const fd = openSync(draft, "wx", options.mode ?? 0o600);
    try {
      let at = 0;
      while (at < bytes.length) at += writeSync(fd, bytes, at);
      if (options.sync === true) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    options.put(draft);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
  if (options.sync === true) syncDirectory(dirname(file));
}

function syncDirectory(dir: string): void {
  const fd = openSync(dir, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Tells a draft that a killed writer left behind from a finished file. */
export function isDraft(name: string): boolean {
  return /\.[a-z0-9]{8}\.tmp$/.test(name);
}
