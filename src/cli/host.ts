// What the command line is handed by main.ts: the client it speaks to and the few things that lie outside of it.
// Types alone. Invariant: commands see a `Corral`, never how it is built.

import type { AttackReport, AttackRequest } from "../api/attack.ts";
import type { Client } from "../api/client.ts";
import type { Corral } from "../api/corral.ts";
import type { CanonProblem, LoomHere } from "../api/loom.ts";
import type { NetworkVerdict } from "../api/network.ts";
import type { CreateSandboxBody } from "../api/server.ts";

export interface OpenOptions {
  /** As given with `--data`; absent = the default place. */
  readonly dataDir?: string;
  /** Sandboxes may have a network; it is told what was not carried, of each one at the latest when it was destroyed. */
  readonly onVerdict?: (verdict: NetworkVerdict) => void;
}

export interface LoomOptions {
  readonly dataDir?: string;
  /** As a person writes it: `scripted`, `openai/NAME`. */
  readonly model: string;
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

export interface ServeRequest {
  readonly dataDir?: string;
  /** As given with `--config`; absent: `corral.yaml` of the data directory, if it is there. */
  readonly configFile?: string;
  /** What the command line says: key of the configuration, text of the value, the words that said so. */
  readonly flags: readonly { readonly key: string; readonly text: string; readonly source: string }[];
}

/** Of one key of the configuration: what is in force and who said so. */
export interface ConfigValue {
  readonly value: unknown;
  readonly source: string;
}

export interface RunningServer extends AsyncDisposable {
  readonly url: string;
  /** The admin key at the first start of a data directory, `null` later. */
  readonly key: string | null;
}

/** Where the server over a data directory answers, and its key for whoever may read that directory. */
export interface LocalServer {
  readonly url: string;
  readonly key: string;
}

/** A client of this process alone; its sandboxes end with it, and so does all that it was told. */
export interface ClientHere extends AsyncDisposable {
  readonly client: Client;
  readonly policies: Pick<Corral["policies"], "load">;
}

export interface McpRequest {
  readonly client: Client;
  /** What the client's sandbox is made with. */
  readonly sandbox: CreateSandboxBody;
  readonly mayCommit: boolean;
  /** This process was asked to end. */
  readonly signal: AbortSignal;
  readonly onError: (error: Error) => void;
}

export interface CliHost {
  readonly version: string;
  open(options: OpenOptions): Promise<Corral>;
  /** Worlds played in this process over a data directory; only where no server runs. Throws `data_locked`, `model_unknown`. */
  loom(options: LoomOptions): Promise<LoomHere>;
  /** Of a world's folder; opens nothing else. Throws `world_not_found`. */
  lintWorld(dir: string): Promise<readonly CanonProblem[]>;
  /** Only where no server runs. */
  openClient(options: Pick<OpenOptions, "dataDir">): Promise<ClientHere>;
  /** Speaks MCP on stdin and stdout until the client is gone. */
  mcp(request: McpRequest): Promise<void>;
  /** `undefined` when none runs. */
  localServer(options: OpenOptions): Promise<LocalServer | undefined>;
  serve(request: ServeRequest): Promise<RunningServer>;
  /** What a server would be started with: as text, and by key. No password is in it. */
  serverConfig(request: ServeRequest): Promise<{ readonly text: string; readonly keys: ReadonlyMap<string, ConfigValue> }>;
  /** Throws `request_invalid` for a runtime, class or id that there is none of. */
  attack(request: AttackRequest): Promise<AttackReport>;
  /** Returns the process's exit code. */
  bench(request: BenchRequest): Promise<number>;
}
