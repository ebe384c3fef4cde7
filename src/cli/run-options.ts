// What `corral run` was asked, read from its options. Pure.
// Invariant: contradictory or missing arguments are refused by name before anything is made.

import { CorralError } from "../api/errors.ts";
import type { NetworkPolicy } from "../api/network.ts";
import type { EngineChoice, RuntimeName } from "../api/sandbox.ts";
import { readNetwork } from "./network-words.ts";
import { parseDuration, parseSize } from "./units.ts";

/** As commander hands them over. */
export interface RawRunOptions {
  readonly policy: string;
  readonly allowWrite?: readonly string[];
  readonly hide?: readonly string[];
  readonly engine?: EngineChoice;
  readonly runtime?: RuntimeName;
  readonly timeout?: string;
  readonly memory?: string;
  readonly net?: string;
  readonly allow?: readonly string[];
  readonly json?: boolean;
  readonly yes?: boolean;
  readonly discard?: boolean;
  readonly keep?: boolean;
  readonly data?: string;
}

/** What becomes of the delta: as told, or asked where there is a terminal. */
export type Ending = "yes" | "discard" | "keep" | "ask";

export interface RunOptions {
  readonly dir: string;
  readonly command: readonly string[];
  readonly policy: string;
  readonly additions: { readonly allowWrite: readonly string[]; readonly hide: readonly string[]; readonly codebaseDir: string };
  readonly engine: EngineChoice;
  readonly runtime: RuntimeName | undefined;
  readonly timeoutMs: number | undefined;
  readonly memoryBytes: number | undefined;
  /** `none`: it has no way out. */
  readonly network: NetworkPolicy;
  readonly json: boolean;
  readonly ending: Ending;
  readonly dataDir: string | undefined;
}

export function readRunOptions(dir: string, command: readonly string[], raw: RawRunOptions): RunOptions {
  if (command.length === 0)
    throw new CorralError("request_invalid", "no command was given; write it after --, as in: corral run . -- npm test");
  const endings = (["yes", "discard", "keep"] as const).filter((name) => raw[name] === true);
  if (endings.length > 1) throw new CorralError("request_invalid", `--${endings.join(" and --")} contradict each other; give one of them`);
  return {
    dir,
    command,
    policy: raw.policy,
    additions: { allowWrite: raw.allowWrite ?? [], hide: raw.hide ?? [], codebaseDir: dir },
    engine: raw.engine ?? "auto",
    runtime: raw.runtime,
    timeoutMs: raw.timeout === undefined ? undefined : parseDuration(raw.timeout, "--timeout"),
    memoryBytes: raw.memory === undefined ? undefined : parseSize(raw.memory, "--memory"),
    network: (raw.net ?? raw.allow) === undefined ? "none" : { allow: readNetwork(raw.net, raw.allow) },
    json: raw.json === true,
    ending: endings[0] ?? "ask",
    dataDir: raw.data,
  };
}
