// Where the rows of the client suite run: a service in this process with its local client, or a real `corral serve` with the SDK; in
// both the data directory is new and goes at the end. Invariant: a row cannot tell which of the two it has but by its name.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, onTestFinished } from "vitest";
import { guestProgram } from "../../../guest/test/build.ts";
import type { Client, SandboxHandle } from "../../../src/api/client.ts";
import { errorCode } from "../../../src/api/errors.ts";
import type { RuntimeName } from "../../../src/api/sandbox.ts";
import type { CreateSandboxBody } from "../../../src/api/server.ts";
import { systemClock } from "../../../src/base/clock.ts";
import { nodeIdOf, openDataDir } from "../../../src/sandbox/data-dir.ts";
import { gitTools } from "../../fixtures/git-here.ts";
import { openDoors } from "../../../src/sandbox/egress-doors.ts";
import { NodeNetworks } from "../../../src/service/node-networks.ts";
import { openLocalCorral } from "../../../src/sandbox/corral.ts";
import { Corral } from "../../../src/sdk/corral.ts";
import { ServerMetrics } from "../../../src/server/metrics.ts";
import { localClient } from "../../../src/service/local-client.ts";
import { SecretBox } from "../../../src/service/secret-box.ts";
import { openService } from "../../../src/service/service.ts";
import { CodebaseStore } from "../../../src/codebases/store.ts";
import { storedCodebases } from "../../../src/codebases/stored.ts";
import { codebaseHeads } from "../../../src/service/codebase-heads.ts";
import { openStore } from "../../../src/store/store.ts";
import { BWRAP_MISSING } from "../../bwrap.ts";
import { startServerProcess } from "../../fixtures/server.ts";

/** Of an owner's codebases. */
const QUOTA_BYTES = 24 * 1024 ** 2;

const GIT = ["--set", "git.protocols=https,file", "--set", "git.hosts=code.example"];

export type ClientPlace = "local" | "remote";

export interface ClientLab {
  /** For files of the host; it goes at the end. */
  readonly dir: string;
  readonly admin: Client;
  /** Of a key of scope `user`. */
  of(ownerId: string): Promise<Client>;
  /** Of a key of scope `sandbox`. */
  ofSandbox(ownerId: string, sandboxId: string): Promise<Client>;
  /** One that ends with the test; on the runtime of the suite, of the owner `ann` unless a client is named. */
  make(body?: CreateSandboxBody, client?: Client): Promise<SandboxHandle>;
}

interface Opened extends AsyncDisposable {
  readonly admin: Client;
  /** The client of a key. */
  readonly as: (secret: string) => Promise<Client>;
}

/** Built before the rows of one place and runtime, taken down after them. */
export function clientLab(place: ClientPlace, runtime: RuntimeName): () => ClientLab {
  const missing = runtime === "bwrap" ? BWRAP_MISSING : undefined;
  let lab: ClientLab | undefined;
  let opened: Opened | undefined;
  let dir = "";
  beforeEach((context) => {
    if (missing !== undefined) context.skip(missing);
  });
  beforeAll(async () => {
    if (missing !== undefined) return;
    dir = mkdtempSync("/tmp/corral-client-");
    mkdirSync(join(dir, "host"));
    opened = await (place === "local" ? openHere(join(dir, "data")) : openServer(join(dir, "data")));
    lab = labOver(opened, runtime, join(dir, "host"));
  });
  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
    if (dir !== "") rmSync(dir, { recursive: true, force: true });
  });
  return () => {
    if (lab === undefined) throw new Error("the lab is not open");
    return lab;
  };
}

function labOver({ admin, as }: Opened, runtime: RuntimeName, dir: string): ClientLab {
  const clients = new Map<string, Promise<Client>>();
  const of = (ownerId: string): Promise<Client> => {
    const known = clients.get(ownerId);
    if (known !== undefined) return known;
    const made = admin.tokens.issue({ ownerId, scope: "user", name: "test" }).then(({ secret }) => as(secret));
    clients.set(ownerId, made);
    return made;
  };
  return {
    dir,
    admin,
    of,
    ofSandbox: async (ownerId, sandboxId) =>
      await as((await admin.tokens.issue({ ownerId, scope: "sandbox", sandboxId, name: "test" })).secret),
    make: async (body = {}, client) => {
      const sandbox = await (client ?? (await of("ann"))).create({ runtime, ...body });
      onTestFinished(() => sandbox.destroy());
      return sandbox;
    },
  };
}

async function openHere(root: string): Promise<Opened> {
  await using parts = new AsyncDisposableStack();
  const data = openDataDir({ env: {}, uid: process.getuid?.() ?? 0, path: root });
  const store = parts.use(await openStore({ kind: "sqlite", file: join(data.root, "corral.db") }));
  const guestFile = guestProgram();
  const codebases = new CodebaseStore(data.codebases, { quotaBytes: QUOTA_BYTES });
  const stored = storedCodebases(codebases, codebaseHeads({ store, clock: systemClock }));
  const [uid, nodeId, box] = [process.getuid?.() ?? 0, nodeIdOf(data), SecretBox.open(join(data.root, "secrets.key"))];
  const networks = parts.use(
    new NodeNetworks({ store, nodeId, box, ceiling: { open: true } }, (calls) => openDoors({ data, uid, clock: systemClock, ...calls })),
  );
  const { doors } = networks;
  const corral = parts.use(await openLocalCorral({ guestFile, env: process.env, uid, dataDir: data.root, stored, doors }));
  const service = parts.use(
    await openService({
      corral,
      store,
      clock: systemClock,
      nodeId,
      codebases,
      host: gitTools(join(data.root, "building")),
      quotas: { sandboxes: 100, codebases: 100, snapshots: 12, snapshotBytes: 1024 ** 3 },
      meter: new ServerMetrics(data.root),
      box,
      networks,
    }),
  );
  const now = systemClock.wallMs();
  const { token } = await store.tokens.issue({ ownerId: "admin", scope: "admin", name: "test", now });
  const owned = parts.move();
  return {
    admin: localClient(service, token),
    as: async (secret) => {
      const found = await store.tokens.find(secret, systemClock.wallMs());
      if (found === undefined) throw new Error("the key does not hold");
      return localClient(service, found);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function openServer(root: string): Promise<Opened> {
  const server = await startServerProcess(root, ["--set", `quotas.codebaseBytes=${QUOTA_BYTES}`, "--set", "quotas.snapshots=12", ...GIT]);
  const { url, key } = server;
  return {
    admin: new Corral({ url, key: key ?? "" }),
    as: (secret) => Promise.resolve(new Corral({ url, key: secret })),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** The code that a call was refused with, or `passed`. */
export function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  return call.then(() => "passed", errorCode);
}

export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}
