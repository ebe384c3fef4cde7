// What the command line is handed by main.ts: the client it speaks to and the few things that lie outside of it.
// Types alone. Invariant: commands see a `Corral`, never how it is built.

import type { Corral } from "../api/corral.ts";

export interface OpenOptions {
  /** As given with `--data`; absent = the default place. */
  readonly dataDir?: string;
}

export interface BenchRequest {
  readonly ids: readonly string[];
  readonly json: boolean;
  readonly quick: boolean;
  readonly profile: boolean;
  readonly report: boolean;
}

export interface DemoRequest {
  readonly dataDir?: string;
}

export interface CliHost {
  readonly version: string;
  open(options: OpenOptions): Promise<Corral>;
  /** Returns the process's exit code. */
  bench(request: BenchRequest): Promise<number>;
}
