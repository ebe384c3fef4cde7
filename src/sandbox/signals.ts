// Signal names and numbers of this machine's kernel. Data and two look-ups.
// Invariant: a name that the kernel does not know is an error, never signal 0.

import { constants } from "node:os";
import { CorralError } from "../api/errors.ts";

const NUMBERS: Readonly<Record<string, number>> = constants.signals;
/** The first name wins: SIGABRT, not SIGIOT. */
const NAMES = new Map(
  Object.entries(NUMBERS)
    .toReversed()
    .map(([name, number]) => [number, name]),
);
const SIGRTMIN = 34;
const SIGRTMAX = 64;

/** `SIGTERM` for 15; `null` for 0. */
export function signalName(number: number): string | null {
  if (number === 0) return null;
  if (number >= SIGRTMIN && number <= SIGRTMAX) return number === SIGRTMIN ? "SIGRTMIN" : `SIGRTMIN+${number - SIGRTMIN}`;
  return NAMES.get(number) ?? `SIG${number}`;
}

export function signalNumber(name: string): number {
  const number = NUMBERS[name];
  if (number === undefined)
    throw new CorralError("request_invalid", `signal: ${JSON.stringify(name)} is no signal; write a name such as SIGTERM`);
  return number;
}
