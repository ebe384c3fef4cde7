// What the proxy's process and its parent say to each other: a line of JSON each. Not the network.
// Invariant: secrets go one way, into the process; nothing that comes out of it holds one.

import type { Readable } from "node:stream";
import type { NetworkVerdict } from "../api/network.ts";
import type { Authority } from "./certificate.ts";
import type { GateMetrics } from "./core.ts";
import type { GateState } from "./gate.ts";

export interface StartOrder {
  readonly do: "start";
  readonly authority: Authority;
  readonly upstreamCa: readonly string[];
  /** Absent: those of /etc/resolv.conf. */
  readonly resolvers?: readonly string[];
  /** Taken before anything is served. */
  readonly id?: number;
}

export type Order =
  | StartOrder
  | { readonly do: "open" | "update"; readonly sandbox: string; readonly state: GateState }
  | { readonly do: "close"; readonly sandbox: string }
  | { readonly do: "metrics" };

export type Numbered = Order & { readonly seq: number };

export type Told =
  | { readonly done: number; readonly metrics?: readonly GateMetrics[]; readonly error?: string }
  | { readonly verdict: NetworkVerdict }
  /** Of sandboxes that moved something. */
  | { readonly news: readonly GateMetrics[] };

/** Longest line: a policy with all that it may hold. */
const MAX_LINE_CHARS = 64 * 1024 * 1024;

/** Lines of a pipe until it ends. Throws for one that is too long. */
export async function* lines(pipe: Readable): AsyncGenerator<string> {
  let held = "";
  for await (const piece of pipe.setEncoding("utf8")) {
    const parts = `${held}${piece as string}`.split("\n");
    held = parts.pop() ?? "";
    yield* parts;
    if (held.length > MAX_LINE_CHARS) throw new Error("a line without end");
  }
}
