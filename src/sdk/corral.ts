// The client of a Corral server: `new Corral({ url, key })`, then sandboxes and what is in them. Runs in browsers and every Node.js.
// Invariant: it imports nothing but the contract, so a program that uses it depends on nothing else.

import type { Client, CreateOptions, ListOptions, SandboxHandle, TokenCalls } from "../api/client.ts";
import type { BatchItem, CreateSandboxBody, ListOf, SandboxResource } from "../api/server.ts";
import type { KeptDeltaCalls } from "../api/deltas.ts";
import type { EventCalls } from "../api/events.ts";
import { remoteDeltas } from "./deltas.ts";
import type { CodebaseCalls } from "../api/codebases.ts";
import { remoteCodebases } from "./codebases.ts";
import type { SnapshotCalls } from "../api/snapshots.ts";
import type { AuditCalls } from "../api/audit.ts";
import { remoteAudit } from "./audit.ts";
import type { CorralError } from "../api/errors.ts";
import { remoteEvents } from "./events.ts";
import { type ConnectOptions, type Http, httpOf } from "./http.ts";
import type { PolicyCalls } from "../api/policies.ts";
import { remotePolicies } from "./policies.ts";
import { query } from "./query.ts";
import type { SecretCalls } from "../api/secrets.ts";
import { remoteSecrets } from "./secrets.ts";
import { remoteItem, remoteSandbox } from "./sandbox.ts";
import { remoteSnapshots } from "./snapshots.ts";
import type { TemplateCalls } from "../api/templates.ts";
import { remoteTemplates } from "./templates.ts";
import { remoteTokens } from "./tokens.ts";

export { CorralError } from "../api/errors.ts";
export { type TreeEntry, uploadTree } from "./upload.ts";

export class Corral implements Client {
  readonly deltas: KeptDeltaCalls;
  readonly snapshots: SnapshotCalls;
  readonly secrets: SecretCalls;
  readonly codebases: CodebaseCalls;
  readonly audit: AuditCalls;
  readonly events: EventCalls;
  readonly templates: TemplateCalls;
  readonly policies: PolicyCalls;
  readonly tokens: TokenCalls;
  readonly #http: Http;

  constructor(options: ConnectOptions) {
    this.#http = httpOf(options);
    this.deltas = remoteDeltas(this.#http);
    this.snapshots = remoteSnapshots(this.#http);
    this.secrets = remoteSecrets(this.#http);
    this.codebases = remoteCodebases(this.#http);
    this.audit = remoteAudit(this.#http);
    this.events = remoteEvents(this.#http);
    this.templates = remoteTemplates(this.#http);
    this.policies = remotePolicies(this.#http);
    this.tokens = remoteTokens(this.#http);
  }

  async create(body: CreateSandboxBody, options: CreateOptions = {}): Promise<SandboxHandle> {
    const { idempotencyKey = crypto.randomUUID(), ...call } = options;
    const headers = { "idempotency-key": idempotencyKey };
    const { id } = await this.#http.get<SandboxResource>("/sandboxes", { method: "POST", body, headers, ...call });
    return remoteSandbox(this.#http, id);
  }

  async createBatch(bodies: readonly CreateSandboxBody[], options: CreateOptions = {}): Promise<readonly (SandboxHandle | CorralError)[]> {
    const { idempotencyKey = crypto.randomUUID(), ...call } = options;
    const headers = { "idempotency-key": idempotencyKey };
    const body = { items: bodies };
    const { items } = await this.#http.get<{ items: readonly BatchItem[] }>("/sandboxes/batch", { method: "POST", body, headers, ...call });
    return items.map((item) => remoteItem(this.#http, item));
  }

  sandbox(id: string): SandboxHandle {
    return remoteSandbox(this.#http, id);
  }

  list({ signal, metadata = {}, ...words }: ListOptions = {}): Promise<ListOf<SandboxResource>> {
    const pairs = Object.entries(metadata).map(([name, value]) => `${name}=${value}`);
    return this.#http.get(`/sandboxes${query({ ...words, metadata: pairs })}`, { signal });
  }
}
