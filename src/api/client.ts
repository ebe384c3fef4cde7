// The client of Corral's nouns, as a program holds it. Two implementations pass one suite (test/conformance/client): the SDK over HTTP
// and the local client in the server's own process. Types alone. Invariant: what is refused is a CorralError with a code of the table;
// every call takes an AbortSignal.

import type { AuditCalls } from "./audit.ts";
import type { CallOptions, PageOptions } from "./calls.ts";
import type { TemplateCalls } from "./templates.ts";
import type { CodebaseCalls } from "./codebases.ts";
import type { ContextCalls } from "./contexts.ts";
import type { DeltaCalls, KeptDeltaCalls } from "./deltas.ts";
import type { CorralError } from "./errors.ts";
import type { EventCalls } from "./events.ts";
import type { FileCalls } from "./files.ts";
import type { SandboxMetrics } from "./metrics.ts";
import type { NetworkCalls } from "./network.ts";
import type { ExplainOptions, PolicyCalls, PolicyExplanation } from "./policies.ts";
import type { ProcessCalls } from "./processes.ts";
import type { ExecResult } from "./sandbox.ts";
import type {
  CreateSandboxBody,
  ExecBody,
  IssuedToken,
  IssueTokenBody,
  ListOf,
  PauseBody,
  PortTicket,
  ResumeBody,
  SandboxResource,
  TicketAnswer,
  TokenResource,
} from "./server.ts";
import type { TerminalTicketBody } from "./terminals.ts";
import type { SecretCalls } from "./secrets.ts";
import type { ShellCalls } from "./shells.ts";
import type { ForkBody, SnapshotCalls, SnapshotResource, TakeSnapshotBody } from "./snapshots.ts";

export interface ListOptions extends PageOptions {
  readonly state?: SandboxResource["state"];
  /** All of these pairs. */
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface ClientExecRequest extends Omit<ExecBody, "stdin">, CallOptions {
  readonly stdin?: Uint8Array;
  /** Receive output as it comes; awaited, so a slow sink slows the program. Without sinks the result collects. */
  readonly onStdout?: (chunk: Uint8Array) => void | Promise<void>;
  readonly onStderr?: (chunk: Uint8Array) => void | Promise<void>;
}

/** A sandbox by its id. Making a handle asks nothing; every call does. */
export interface SandboxHandle extends AsyncDisposable {
  readonly id: string;
  info(options?: CallOptions): Promise<SandboxResource>;
  /** What it takes now and took so far. A paused one is not resumed by this. */
  metrics(options?: CallOptions): Promise<SandboxMetrics>;
  /** What its policy says of a path of its codebase (`/src/index.ts`); not of what stands there. Throws `forbidden` with a key for one sandbox. */
  explain(path: string, options?: ExplainOptions): Promise<PolicyExplanation>;
  exec(request: ClientExecRequest): Promise<ExecResult>;
  readonly files: FileCalls;
  readonly delta: DeltaCalls;
  readonly processes: ProcessCalls;
  readonly shells: ShellCalls;
  readonly contexts: ContextCalls;
  readonly network: NetworkCalls;
  /** Moves its end to `timeoutMs` from now; `null` never ends by itself. */
  renew(timeoutMs: number | null, options?: CallOptions): Promise<SandboxResource>;
  /** Whatever asks for it next resumes it. Throws `sandbox_state`, `runtime_unavailable`. */
  pause(options?: PauseBody & CallOptions): Promise<SandboxResource>;
  /** Nothing changes for one that runs. */
  resume(options?: ResumeBody & CallOptions): Promise<SandboxResource>;
  /** Its files as they are now; one that runs stands still meanwhile. `idempotencyKey`: a repeated call answers with the first one's. */
  snapshot(options?: TakeSnapshotBody & CreateOptions): Promise<SnapshotResource>;
  /** Ends its processes and gives it back the files of a snapshot of its own; it goes on if it ran. */
  restore(snapshotId: string, options?: CallOptions): Promise<SandboxResource>;
  /** Sandboxes that begin with its files of now, each one or its error; processes stay behind. `idempotencyKey` as with `createBatch`. */
  fork(options?: ForkBody & CreateOptions): Promise<readonly (SandboxHandle | CorralError)[]>;
  /** One-time, for a page: opens that port on its own host, if the server has a domain for sandboxes. */
  portTicket(port: number, options?: CallOptions): Promise<PortTicket>;
  /** One-time, for a page: opens a terminal over a WebSocket, `GET /v1/ws?ticket=…` (api/terminals.ts). */
  terminalTicket(body: TerminalTicketBody, options?: CallOptions): Promise<TicketAnswer>;
  /** Idempotent. */
  destroy(options?: CallOptions): Promise<void>;
}

export interface CreateOptions extends CallOptions {
  readonly idempotencyKey?: string;
}

export interface TokenCalls {
  issue(body: IssueTokenBody, options?: CallOptions): Promise<IssuedToken>;
  /** Of the asking key's owner, or of another's with a key of scope admin. */
  list(options?: CallOptions & { readonly ownerId?: string }): Promise<ListOf<TokenResource>>;
  revoke(id: string, options?: CallOptions & { readonly ownerId?: string }): Promise<boolean>;
}

export interface Client {
  /** `idempotencyKey`: a repeated create with the same key answers with the first one's sandbox. */
  create(body: CreateSandboxBody, options?: CreateOptions): Promise<SandboxHandle>;
  /**
   * At most MAX_BATCH creates in one call, in order: each is a sandbox or its error. `idempotencyKey`: a repeated batch with the same key
   * gives what the first one made, and tries again what failed.
   */
  createBatch(bodies: readonly CreateSandboxBody[], options?: CreateOptions): Promise<readonly (SandboxHandle | CorralError)[]>;
  sandbox(id: string): SandboxHandle;
  /** Newest first. */
  list(options?: ListOptions): Promise<ListOf<SandboxResource>>;
  readonly codebases: CodebaseCalls;
  readonly templates: TemplateCalls;
  readonly snapshots: SnapshotCalls;
  readonly secrets: SecretCalls;
  readonly deltas: KeptDeltaCalls;
  /** Of calls over HTTP. */
  readonly audit: AuditCalls;
  readonly events: EventCalls;
  readonly policies: PolicyCalls;
  readonly tokens: TokenCalls;
}
