// One command line while it runs. Types alone.

import type { CliHost } from "./host.ts";

export interface Session {
  readonly host: CliHost;
  /** What stands after `--`, exactly as given. */
  readonly rest: readonly string[] | undefined;
  exitCode: number;
}
