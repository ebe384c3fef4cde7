// Verdicts on their way out: alike ones of one second become one line. Writes nothing itself.
// Invariant: whatever a sandbox does, at most `MAX_TOLD` + 1 lines a second are told of it, and their counts are exact.

import type { NetworkVerdict } from "../api/network.ts";
import type { Clock } from "../base/clock.ts";
import type { Gate, Verdict } from "./gate.ts";
import { GATHER_MS, MAX_TOLD } from "./limits.ts";

const LONGEST_PATH = 512;

interface Gathered {
  readonly lines: Map<string, NetworkVerdict>;
  readonly timer: NodeJS.Timeout;
}

export class Audit {
  readonly #clock: Clock;
  readonly #tell: (verdict: NetworkVerdict) => void;
  readonly #gathered = new Map<string, Gathered>();

  constructor(clock: Clock, tell: (verdict: NetworkVerdict) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** Is told within a second. */
  take(gate: Pick<Gate, "id" | "version">, verdict: Verdict): void {
    const known = this.#gathered.get(gate.id);
    const gathered = known ?? { lines: new Map<string, NetworkVerdict>(), timer: setTimeout(() => this.#flush(gate.id), GATHER_MS) };
    if (known === undefined) this.#gathered.set(gate.id, gathered);
    const { path, ...rest } = verdict;
    const line = {
      at: "",
      sandboxId: gate.id,
      version: gate.version,
      ...rest,
      ...(path === undefined ? {} : { path: printable(path) }),
      count: 1,
    };
    const { sentBytes, receivedBytes, ...alike } = line;
    const key = JSON.stringify(alike);
    const isRoom = gathered.lines.has(key) || gathered.lines.size < MAX_TOLD;
    const { way, outcome } = verdict;
    const told = isRoom ? line : { at: "", sandboxId: gate.id, version: gate.version, way, outcome, sentBytes, receivedBytes, count: 1 };
    this.#add(gathered.lines, isRoom ? key : "rest", told);
  }

  #add(lines: Map<string, NetworkVerdict>, key: string, line: NetworkVerdict): void {
    const before = lines.get(key);
    const sum =
      before === undefined
        ? line
        : {
            ...before,
            sentBytes: before.sentBytes + line.sentBytes,
            receivedBytes: before.receivedBytes + line.receivedBytes,
            count: before.count + 1,
          };
    lines.set(key, { ...sum, at: new Date(this.#clock.wallMs()).toISOString() });
  }

  /** Tells all at once: at the end of a sandbox, or of the proxy. */
  flush(): void {
    for (const id of this.#gathered.keys()) this.#flush(id);
  }

  #flush(id: string): void {
    const gathered = this.#gathered.get(id);
    if (gathered === undefined) return;
    clearTimeout(gathered.timer);
    this.#gathered.delete(id);
    for (const line of gathered.lines.values()) this.#tell(line);
  }
}

function printable(path: string): string {
  return path.slice(0, LONGEST_PATH).replaceAll(/[^\x20-\x7e]/g, "?");
}
