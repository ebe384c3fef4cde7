// What a shell's control channel carries (shell-loop.bash): commands in, their ends out. What comes out was written beside hostile code.
// Invariant: a report that is none, or longer than any path allows, is never taken for one.

import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Bytes of a command that travel at once: one that was cut off is made up for by so many. */
const CHUNK_BYTES = 4_096;
/** ID, status and a directory; longer ones cannot be entered by name. */
const MAX_REPORT_BYTES = 16 * 1024;
export const RECORD_ID_LENGTH = 16;
const REPORT = /^([a-z0-9]{16}) (\d{1,3}) (\/[^]*)$/;

export interface ShellReport {
  readonly id: string;
  readonly exitCode: number;
  readonly cwd: string;
}

/** Takes the loop from its control channel: as an argument, everybody who lists processes would read all of it. */
export const SHELL_ARGV: readonly string[] = [
  ...["bash", "--noprofile", "--norc", "-c"],
  'IFS= read -r -d "" -u 3 REPLY; eval "$REPLY"; unset REPLY; eval "$__corral_loop"',
];

/** What a new shell is sent first. */
export function loopRecord(): Uint8Array {
  const text = readFileSync(join(import.meta.dirname, "shell-loop.bash"), "utf8");
  return Buffer.from(`${text.replace(/^#.*\n|^\s+#.*\n/gm, "")}\0`);
}

/** A command under an id of RECORD_ID_LENGTH letters and digits. */
export function commandRecords(id: string, command: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < command.length; at += CHUNK_BYTES) {
    const piece = command.subarray(at, at + CHUNK_BYTES);
    parts.push(Buffer.from(`+${piece.length}\0`), piece);
  }
  return Buffer.concat([...parts, Buffer.from(`=${id} ${command.length}\0`)]);
}

/** Asks for a report alone, which comes when nothing runs. `resync`: the one who wrote before may have been cut off at any byte. */
export function pingRecords(id: string, resync: boolean): Uint8Array {
  return Buffer.from(`${resync ? `${"x".repeat(CHUNK_BYTES)}\0-\0` : ""}=${id} 0\0`);
}

/** Cuts the channel's bytes into reports. */
export class ReportReader {
  #held: Buffer = Buffer.alloc(0);

  /** `undefined`: bytes that no loop of ours writes. */
  push(chunk: Uint8Array): readonly ShellReport[] | undefined {
    const all = Buffer.concat([this.#held, chunk]);
    const reports: ShellReport[] = [];
    let at = 0;
    for (let end = all.indexOf(0); end >= 0; end = all.indexOf(0, at)) {
      const report = parse(all.toString("utf8", at, end));
      if (report === undefined) return undefined;
      reports.push(report);
      at = end + 1;
    }
    this.#held = Buffer.from(all.subarray(at));
    return this.#held.length > MAX_REPORT_BYTES ? undefined : reports;
  }
}

function parse(text: string): ShellReport | undefined {
  const [, id, exitCode, cwd] = REPORT.exec(text) ?? [];
  if (id === undefined || cwd === undefined || cwd.length > MAX_REPORT_BYTES) return undefined;
  return { id, exitCode: Number(exitCode), cwd };
}
