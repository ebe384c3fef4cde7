// What a run tried to reach and was not let to, told at its end: once a host and program, with the option that lets it. Prints nothing.
// Invariant: what it keeps is bounded, and what came from inside is inert.

import type { NetworkVerdict } from "../api/network.ts";
import { inert } from "../base/inert.ts";

const MOST = 20;
const TLS_PORT = 443;

export class Attempts {
  readonly #counts = new Map<string, { readonly verdict: NetworkVerdict; count: number }>();
  #others = 0;

  add(verdict: NetworkVerdict): void {
    const { host, port, process, reason } = verdict;
    const key = JSON.stringify([host, port, process?.split(":")[1], reason]);
    const known = this.#counts.get(key);
    if (known !== undefined) known.count += verdict.count;
    else if (this.#counts.size < MOST) this.#counts.set(key, { verdict, count: verdict.count });
    else this.#others += verdict.count;
  }

  lines(): readonly string[] {
    const told = [...this.#counts.values()].map(({ verdict, count }) => line(verdict, count));
    return this.#others === 0 ? told : [...told, `tried to reach others, ${this.#others} times`];
  }
}

function line({ host = "something unreadable", port = TLS_PORT, process, reason, outcome }: NetworkVerdict, count: number): string {
  const name = inert(host);
  const who = process === undefined ? "" : inert(process.slice(process.indexOf(":") + 1));
  const times = count === 1 ? "" : `${count} times`;
  const by = [who, times].filter((word) => word !== "").join(", ");
  const how = reason === "no-rule" ? `no rule; --allow ${name}${port === TLS_PORT ? "" : `:${port}`} lets it` : (reason ?? outcome);
  return `tried to reach ${name}:${port}${by === "" ? "" : ` (${by})`}: ${how}`;
}
