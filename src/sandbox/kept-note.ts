// What a kept command carries along about itself, so that a server that takes it up knows what it is. It lies in the guest: hostile code
// may have written it anew. Invariant: what does not fit is as if nothing had been said; nothing but display depends on it.

const MAX_NOTE_BYTES = 4_096;
const MAX_COMMAND_CHARACTERS = 1_000;

export interface KeptNote {
  readonly command: readonly string[] | string;
  /** Wall clock, ms. */
  readonly startedAt: number;
}

export function writeNote({ command, startedAt }: KeptNote): string {
  const whole = JSON.stringify({ command, startedAt });
  if (Buffer.byteLength(whole) <= MAX_NOTE_BYTES) return whole;
  return JSON.stringify({ command: shortened(command), startedAt });
}

/** `now`: for a note that says nothing of its time. */
export function readNote(text: string, now: number): KeptNote {
  try {
    const { command, startedAt } = JSON.parse(text) as Partial<Record<keyof KeptNote, unknown>>;
    if (isCommand(command) && typeof startedAt === "number" && startedAt > 0 && startedAt <= now) return { command, startedAt };
  } catch {
    // not one of ours any more
  }
  return { command: "(unknown)", startedAt: now };
}

/** Of a long command its beginning; four bytes each at most, and escapes. */
function shortened(command: readonly string[] | string): string {
  const text = typeof command === "string" ? command : command.join(" ");
  const cut = text.slice(0, MAX_COMMAND_CHARACTERS).toWellFormed();
  // A control character takes six bytes in JSON.
  return Buffer.byteLength(JSON.stringify(cut)) < MAX_NOTE_BYTES - 100 ? `${cut}…` : `${cut.slice(0, MAX_COMMAND_CHARACTERS / 2)}…`;
}

function isCommand(value: unknown): value is KeptNote["command"] {
  return typeof value === "string" || (Array.isArray(value) && value.every((word) => typeof word === "string"));
}
