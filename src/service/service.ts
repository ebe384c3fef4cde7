// All nouns of a server over one data directory: opened in order, closed in the other. What a noun does stands in its own file.
// Not HTTP: the routes of src/server and the local client call the same methods. Invariant: every method takes the token of who asks.

import { Keys } from "./keys.ts";
import type { ServiceParts } from "./parts.ts";
import { CodebaseReads } from "./codebase-reads.ts";
import { Codebases } from "./codebases.ts";
import { Deltas } from "./deltas.ts";
import { Audit } from "./audit.ts";
import { Events } from "./events.ts";
import { Files } from "./files.ts";
import { Networks } from "./networks.ts";
import { Policies } from "./policies.ts";
import { Ports } from "./ports.ts";
import { Processes } from "./processes.ts";
import { Sandboxes } from "./sandboxes.ts";
import { Secrets } from "./secrets.ts";
import { Stands } from "./stands.ts";
import { Templates } from "./templates.ts";
import { Terminals } from "./terminals.ts";
import { Snapshots } from "./snapshots.ts";
import { Tokens } from "./tokens.ts";
import { Uploads } from "./uploads.ts";

export interface Service extends AsyncDisposable {
  readonly sandboxes: Sandboxes;
  readonly codebases: Codebases;
  readonly templates: Templates;
  readonly codebaseReads: CodebaseReads;
  readonly uploads: Uploads;
  readonly files: Files;
  readonly deltas: Deltas;
  readonly snapshots: Snapshots;
  readonly audit: Audit;
  readonly processes: Processes;
  readonly events: Events;
  readonly keys: Keys;
  readonly networks: Networks;
  readonly policies: Policies;
  readonly ports: Ports;
  readonly terminals: Terminals;
  readonly secrets: Secrets;
  readonly tokens: Tokens;
}

export async function openService(given: ServiceParts): Promise<Service> {
  await using opened = new AsyncDisposableStack();
  await given.store.snapshots.forgetUntaken(given.nodeId);
  await given.store.idempotency.releaseUnwritten(given.nodeId);
  const events = opened.use(new Events(given));
  const audit = opened.use(new Audit(given));
  const parts = { ...given, store: events.waking() };
  const keys = opened.use(new Keys(parts));
  const codebases = opened.use(await Codebases.open(parts));
  const templates = opened.use(await Templates.open(parts, codebases));
  const sandboxes = opened.use(await Sandboxes.open(parts, new Stands(parts, codebases, templates)));
  const processes = new Processes(parts, sandboxes);
  const networks = opened.use(new Networks(parts, sandboxes, audit));
  const policies = opened.use(new Policies(sandboxes));
  const snapshots = await Snapshots.open(parts, sandboxes);
  const owned = opened.move();
  return {
    sandboxes,
    codebases,
    templates,
    codebaseReads: new CodebaseReads(parts, codebases),
    uploads: new Uploads(parts, codebases),
    deltas: new Deltas(parts, sandboxes),
    snapshots,
    audit,
    processes,
    events,
    files: new Files(sandboxes),
    keys,
    networks,
    policies,
    ports: new Ports({ ...parts, sandboxes, keys }),
    terminals: new Terminals({ ...parts, sandboxes, processes, keys }),
    secrets: new Secrets(parts),
    tokens: new Tokens(parts, keys),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
