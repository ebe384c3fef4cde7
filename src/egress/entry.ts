// The line with which the guest begins each connection. All of it is hostile: a sandbox may speak to its socket without the guest.
// Invariant: what is not exactly one of the four lines is nothing.

import { Host } from "./host.ts";
import type { Target } from "./rules.ts";

export type Entry =
  | { readonly way: "proxy" | "resolve"; readonly process?: string }
  | { readonly way: "name" | "address"; readonly target: Target; readonly process?: string };

/** With its line feed, bytes. */
export const MAX_ENTRY_BYTES = 400;
const PROCESS = /^(?:-|[1-9]\d{0,9}:[A-Za-z0-9._+?-]{1,64})$/;
const PORT = /^[1-9]\d{0,4}$/;

/** A line without its line feed. */
export function parseEntry(line: string): Entry | undefined {
  const words = line.split(" ");
  const teller = words.at(-1) ?? "";
  if (!PROCESS.test(teller)) return undefined;
  const process = teller === "-" ? {} : { process: teller };
  const [way] = words;
  if (way === "proxy" || way === "resolve") return words.length === 2 ? { way, ...process } : undefined;
  if ((way !== "name" && way !== "address") || words.length !== 4) return undefined;
  const [, text = "", port = ""] = words;
  const host = Host.parse(text);
  if (host === undefined || !PORT.test(port) || Number(port) > 65_535) return undefined;
  return (host.address !== undefined) === (way === "address") ? { way, target: { host, port: Number(port) }, ...process } : undefined;
}
