// What a sandbox of this process takes, for whoever asks. Invariant: however many ask and however often, it is counted once at a time and
// not more often than every READ_MS; asking resumes and changes nothing.

import type { ContainerUsage, SandboxMetrics } from "../api/metrics.ts";
import type { Clock } from "../base/clock.ts";
import type { Container } from "../runtime/runtime.ts";
import type { HeldLimits } from "./limits.ts";
import type { QuotaWatcher } from "./watcher.ts";

/** How long an answer is given again, ms. */
const READ_MS = 200;

export interface MetricsParts {
  readonly container: Container;
  readonly watcher: QuotaWatcher;
  readonly clock: Clock;
  readonly limits: HeldLimits;
}

type Counted = Omit<SandboxMetrics, "id" | "state">;

export class Metrics {
  readonly #parts: MetricsParts;
  #reading: Promise<Counted> | undefined;
  #readMs = -Infinity;

  constructor(parts: MetricsParts) {
    this.#parts = parts;
  }

  async read(state: SandboxMetrics["state"]): Promise<SandboxMetrics> {
    const { clock, container } = this.#parts;
    if (this.#reading === undefined || clock.monotonicMs() - this.#readMs > READ_MS) {
      const reading = this.#count();
      this.#reading = reading;
      this.#readMs = Infinity; // until it is there
      reading.then(
        () => (this.#readMs = clock.monotonicMs()),
        () => (this.#reading = undefined),
      );
    }
    return { id: container.id, state, ...(await this.#reading) };
  }

  async #count(): Promise<Counted> {
    const { container, watcher, clock, limits } = this.#parts;
    const [usage, disk]: [ContainerUsage, SandboxMetrics["disk"]] = await Promise.all([container.usage(), watcher.usage(container.id)]);
    const { memoryBytes, cpus, pids, diskBytes, inodes } = limits;
    const at = new Date(clock.wallMs()).toISOString();
    return { at, ...usage, disk, limits: { memoryBytes, cpus, pids, diskBytes, inodes } };
  }
}

/** Of one whose processes ended with its pause. */
export function restingMetrics(id: string, clock: Clock): SandboxMetrics {
  const nothing = { cpu: null, memory: null, pids: null, io: null, disk: null, limits: null };
  return { id, at: new Date(clock.wallMs()).toISOString(), state: "paused", ...nothing };
}
