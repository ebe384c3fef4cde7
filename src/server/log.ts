// The server's log: a line of JSON each on stderr, or pretty on a terminal. Not the audit of what owners did.
// Invariant: no key, environment, command, output or query string is written; a reader that does not read costs a bounded amount of memory.

import { type DestinationStream, type Logger, pino } from "pino";
import type { ServerConfig } from "../config/schema.ts";

const STDERR = 2;
/** Lines that wait for a slow reader; what comes after is dropped, bytes. */
const MAX_WAITING_BYTES = 4 * 1024 ** 2;
/** Of one stack trace. */
const MAX_CAUSE_LENGTH = 4_096;

export async function openLog({ level, format }: ServerConfig["log"], isTerminal: boolean): Promise<Logger> {
  if (format !== "pretty" && (format === "json" || !isTerminal))
    return logTo(level, pino.destination({ dest: STDERR, sync: false, maxLength: MAX_WAITING_BYTES }));
  const { default: pretty } = await import("pino-pretty");
  return logTo(level, pretty({ destination: STDERR, sync: true, colorize: isTerminal }));
}

export function logTo(level: ServerConfig["log"]["level"], stream: DestinationStream): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
}

/** What happened below an error that nobody foresaw, for a log that may be read on a terminal. */
export function causeText(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  // SAFETY: a message may quote bytes that came out of a sandbox; control characters would act on the reader's terminal.
  return text
    .slice(0, MAX_CAUSE_LENGTH)
    .replaceAll(/[\p{Cc}\p{Cf}]/gu, (char) => (char === "\n" ? char : `\\u{${char.codePointAt(0)?.toString(16)}}`));
}
