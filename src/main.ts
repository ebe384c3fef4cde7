// The composition root: builds every part and hands the parts to each other. The only file that sees all rooms.
// Not a place for decisions: what a command does is cli/'s, how a sandbox is made is sandbox/'s.
// Invariant: a start that only prints help builds nothing; the process ends with the command's exit code after its output is out.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { PoolPlan } from "./api/corral.ts";
import { CorralError } from "./api/errors.ts";
import type { ReadConfig } from "./config/read.ts";
import type { ServerConfig } from "./config/schema.ts";
import type { LoomHere } from "./api/loom.ts";
import type { Clock } from "./base/clock.ts";
import type { CodebaseStore } from "./codebases/store.ts";
import type { Store } from "./store/store.ts";
import type { HostTools } from "./service/parts.ts";
import type { StoredCodebases } from "./view/stored.ts";
import type { CliHost, ClientHere, LocalServer, LoomOptions, OpenOptions, RunningServer, ServeRequest } from "./cli/host.ts";
import type { DataDir } from "./sandbox/data-dir.ts";
import type { NodeNetworksParts } from "./service/node-networks.ts";
import type { SandboxDoors } from "./sandbox/doors.ts";
import type { NetworkPolicy } from "./api/network.ts";
import type { HostCorral } from "./sandbox/corral.ts";

const ROOT = join(import.meta.dirname, "..");
/** Who runs this, and in which environment: what the place of the data directory follows from. */
const HERE = { env: process.env, uid: process.getuid?.() ?? 0 };

const host: CliHost = {
  version: (JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly version: string }).version,
  open: openHere,
  openClient: openClientHere,
  mcp: async ({ sandbox, mayCommit, ...request }) => {
    const { serveMcpStdio } = await import("./mcp/stdio.ts");
    await serveMcpStdio({ ...request, settings: { sandbox, mayCommit }, version: host.version });
  },
  localServer: findServer,
  loom: playHere,
  lintWorld: async (dir) => {
    const { lintFolder } = await import("./loom/play.ts");
    return await lintFolder(dir);
  },
  serve: serveHere,
  serverConfig: describeConfigHere,
  attack: async (request) => {
    demandLinux();
    const { attack } = await import("./attack/run.ts");
    return await attack({ buildDir: join(ROOT, "guest", "build"), version: host.version, ...HERE }, request);
  },
  bench: async (request) => {
    const { runBenches } = await import("../bench/run.ts");
    return await runBenches({
      ...request,
      open: (dataDir, pool) => openHere({ dataDir, ...(pool === undefined ? {} : { pool }) }),
      corralArgv: [join(ROOT, "corral")],
    });
  },
};

interface HostOptions extends OpenOptions {
  /** Its sandboxes outlive this process. */
  readonly lasting?: boolean;
  readonly stored?: StoredCodebases;
  readonly pool?: PoolPlan;
  readonly doors?: SandboxDoors;
  readonly pythonModules?: readonly string[];
}

/** Corral in this process over a data directory, no HTTP between. */
async function openHere({ dataDir, lasting = false, stored, pool, doors, onVerdict, pythonModules }: HostOptions): Promise<HostCorral> {
  demandLinux();
  const { openLocalCorral } = await import("./sandbox/corral.ts");
  return await openLocalCorral({
    guestFile: join(ROOT, "guest", "build", "corral-guest"),
    ...HERE,
    lasting,
    ...(dataDir === undefined ? {} : { dataDir }),
    ...(stored === undefined ? {} : { stored }),
    ...(pool === undefined ? {} : { pool }),
    ...(doors === undefined ? {} : { doors }),
    ...(pythonModules === undefined ? {} : { pythonModules }),
    ...(onVerdict === undefined ? {} : { onVerdict }),
  });
}

/** Worlds in this process: the store of the data directory, which one process owns. */
async function playHere({ dataDir, model: spec }: LoomOptions): Promise<LoomHere> {
  const [{ openDataDir }, { holdOwnerLock }, { openStore }, { openPlay }, { modelNamed }, { ENGINE_DEFAULTS }] = await Promise.all([
    import("./sandbox/data-dir.ts"),
    import("./store/owner-lock.ts"),
    import("./store/store.ts"),
    import("./loom/play.ts"),
    import("./loom/models/setup.ts"),
    import("./loom/turn/parts.ts"),
  ]);
  const [{ systemClock: clock }, { systemAlarms: alarms }, { randomText }, { ID_BODY_LENGTH, ID_PREFIX }] = await Promise.all([
    import("./base/clock.ts"),
    import("./base/alarm.ts"),
    import("./base/random-text.ts"),
    import("./api/ids.ts"),
  ]);
  const model = modelNamed(spec, process.env);
  await using parts = new AsyncDisposableStack();
  const { root } = openDataDir({ ...HERE, ...(dataDir === undefined ? {} : { path: dataDir }) });
  parts.use(holdOwnerLock(join(root, "serve.lock")));
  const store = parts.use(await openStore({ kind: "sqlite", file: join(root, "corral.db") }));
  const loom = parts.use(
    await openPlay({
      ...{ store, clock, alarms, route: () => [model], prices: new Map(), ownerId: "local", random: Math.random, config: ENGINE_DEFAULTS },
      // The lock says it: whoever wrote before is gone.
      ...{ writer: `play-${randomText(ID_BODY_LENGTH)}`, isDead: () => Promise.resolve(true) },
      newId: (noun) => `${ID_PREFIX[noun]}${randomText(ID_BODY_LENGTH)}`,
      onError: (error) => process.stderr.write(`corral: ${(error as Error).message}\n`),
    }),
  );
  const owned = parts.move();
  return { ...loom, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function demandLinux(): void {
  if (process.platform !== "linux")
    throw new CorralError(
      "runtime_unavailable",
      `sandboxes need Linux, which this ${process.platform} machine is not; use a server: corral create --server URL, then corral exec SB -- CMD`,
    );
}

async function findServer({ dataDir }: OpenOptions): Promise<LocalServer | undefined> {
  if (process.platform !== "linux") return undefined;
  const [{ defaultDataPath }, { findLocalDoor }] = await Promise.all([import("./sandbox/data-dir.ts"), import("./service/local-door.ts")]);
  return findLocalDoor(resolve(dataDir ?? defaultDataPath(HERE.env, HERE.uid)));
}

async function readConfigHere({ dataDir, configFile, flags }: ServeRequest): Promise<ReadConfig> {
  const [{ readConfig }, { defaultDataPath }] = await Promise.all([import("./config/read.ts"), import("./sandbox/data-dir.ts")]);
  const path = configFile ?? join(dataDir ?? defaultDataPath(HERE.env, HERE.uid), "corral.yaml");
  return readConfig({ file: { path: resolve(path), demanded: configFile !== undefined }, env: process.env, flags });
}

async function describeConfigHere(request: ServeRequest): ReturnType<CliHost["serverConfig"]> {
  const { describeConfig, printConfig } = await import("./config/print.ts");
  const keys = describeConfig(await readConfigHere(request));
  return { text: printConfig(keys), keys };
}

/** A start that fails ends nothing that it took over: this process exits, and the next server goes on with it. */
function heldUntil(
  parts: AsyncDisposableStack,
  corral: HostCorral,
): { use: <T extends AsyncDisposable>(part: T) => T; answers: () => void } {
  let isUp = corral.adopted.length === 0;
  const use = <T extends AsyncDisposable>(part: T): T => {
    parts.defer(async () => (isUp ? await part[Symbol.asyncDispose]() : undefined));
    return part;
  };
  return { use, answers: () => void (isUp = true) };
}

async function codebasesHere(
  dir: string,
  quotaBytes: number,
  rows: { readonly store: Store; readonly clock: Clock },
): Promise<{ readonly codebases: CodebaseStore; readonly stored: StoredCodebases }> {
  const [store, { storedCodebases }, { codebaseHeads }] = await Promise.all([
    import("./codebases/store.ts"),
    import("./codebases/stored.ts"),
    import("./service/codebase-heads.ts"),
  ]);
  const codebases = new store.CodebaseStore(dir, { quotaBytes });
  return { codebases, stored: storedCodebases(codebases, codebaseHeads(rows)) };
}

/** What sandboxes reach outside, with the key that their secrets are sealed with. */
async function networksHere(data: DataDir, parts: Omit<NodeNetworksParts, "box"> & { readonly clock: Clock }) {
  const [{ SecretBox }, { NodeNetworks }, { openDoors }] = await Promise.all([
    import("./service/secret-box.ts"),
    import("./service/node-networks.ts"),
    import("./sandbox/egress-doors.ts"),
  ]);
  const { clock } = parts;
  const box = SecretBox.open(join(data.root, "secrets.key"));
  const networks = new NodeNetworks({ ...parts, box }, (calls) => openDoors({ data, uid: HERE.uid, clock, ...calls }));
  return { box, networks };
}

/** Programs of this machine that make roots of templates. */
function hostTools(buildDir: string, { templates: { mirror }, git }: ServerConfig): HostTools {
  return {
    buildDir,
    git: {
      ...git,
      fetch: async (request) => {
        const { fetchGit } = await import("./runtime/git.ts");
        return await fetchGit({ ...git, ...request });
      },
    },
    debootstrap: async (request) => {
      const { debootstrap } = await import("./runtime/debootstrap.ts");
      await debootstrap({ ...request, ...(mirror === null ? {} : { mirror }) });
    },
  };
}

/** A client over a data directory that no server has: what it is told lies in a database that goes when this process ends. */
async function openClientHere({ dataDir }: Pick<OpenOptions, "dataDir">): Promise<ClientHere> {
  demandLinux();
  const [
    { openDataDir, nodeIdOf },
    { openStore },
    { openService },
    { localClient },
    { ServerMetrics },
    { systemClock: clock },
    { config },
  ] = await Promise.all([
    import("./sandbox/data-dir.ts"),
    import("./store/store.ts"),
    import("./service/service.ts"),
    import("./service/local-client.ts"),
    import("./server/metrics.ts"),
    import("./base/clock.ts"),
    readConfigHere({ flags: [], ...(dataDir === undefined ? {} : { dataDir }) }),
  ]);
  await using parts = new AsyncDisposableStack();
  const data = openDataDir({ ...HERE, ...(dataDir === undefined ? {} : { path: dataDir }) });
  const own = mkdtempSync(join(tmpdir(), "corral-client-"));
  parts.defer(() => rmSync(own, { recursive: true, force: true }));
  const store = parts.use(await openStore({ kind: "sqlite", file: join(own, "corral.db"), ...config.store.sqlite }));
  const { codebases, stored } = await codebasesHere(join(own, "codebases"), config.quotas.codebaseBytes, { store, clock });
  const nodeId = nodeIdOf(data);
  const { box, networks } = await networksHere(data, { store, nodeId, clock, ceiling: config.network.ceiling as NetworkPolicy });
  parts.use(networks);
  const corral = parts.use(await openHere({ dataDir: data.root, stored, doors: networks.doors }));
  const [{ quotas }, meter] = [config, new ServerMetrics(data.root)];
  const tools = hostTools(join(own, "building"), config);
  const service = parts.use(await openService({ corral, store, clock, nodeId, codebases, host: tools, quotas, meter, box, networks }));
  const { token } = await store.tokens.issue({ ownerId: "admin", scope: "admin", name: "this process", now: clock.wallMs() });
  const owned = parts.move();
  return { client: localClient(service, token), policies: corral.policies, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A server over a data directory, with every part that it owns; they end in the other order. */
async function serveHere(request: ServeRequest): Promise<RunningServer> {
  demandLinux();
  const { config } = await readConfigHere(request);
  const { dataDir } = request;
  const [
    { openDataDir, nodeIdOf },
    { holdOwnerLock },
    { openStore },
    { openService },
    { openLocalDoor },
    { startServer },
    { openLog },
    { ServerMetrics },
    { systemClock: clock },
    { mcpEndpoint },
  ] = await Promise.all([
    import("./sandbox/data-dir.ts"),
    import("./store/owner-lock.ts"),
    import("./store/store.ts"),
    import("./service/service.ts"),
    import("./service/local-door.ts"),
    import("./server/serve.ts"),
    import("./server/log.ts"),
    import("./server/metrics.ts"),
    import("./base/clock.ts"),
    import("./mcp/http.ts"),
  ]);
  await using parts = new AsyncDisposableStack();
  const data = openDataDir({ ...HERE, ...(dataDir === undefined ? {} : { path: dataDir }) });
  const { root } = data;
  parts.use(holdOwnerLock(join(root, "serve.lock")));
  const log = await openLog(config.log, process.stderr.isTTY);
  const metrics = new ServerMetrics(root);
  const store = parts.use(
    await openStore(
      config.store.url === null
        ? { kind: "sqlite", file: join(root, "corral.db"), ...config.store.sqlite }
        : { kind: "postgres", url: config.store.url, pool: config.store.pool },
    ),
  );
  const { codebases, stored } = await codebasesHere(data.codebases, config.quotas.codebaseBytes, { store, clock });
  const nodeId = nodeIdOf(data);
  const { box, ...opened } = await networksHere(data, { store, nodeId, clock, ceiling: config.network.ceiling as NetworkPolicy });
  const networks = parts.use(opened.networks);
  const { doors } = networks;
  const corral = await openHere({ dataDir: root, lasting: true, stored, doors, pool: config.pool, ...config.interpreters });
  const { use, answers } = heldUntil(parts, corral);
  use(corral);
  const tools = hostTools(join(root, "building"), config);
  const { quotas } = config;
  const service = use(await openService({ corral, store, clock, nodeId, codebases, host: tools, quotas, meter: metrics, box, networks }));
  const mcp = mcpEndpoint(host.version, config);
  const { url, localUrl, key } = parts.use(await startServer({ store, service, clock, version: host.version, log, metrics, config, mcp }));
  parts.use(await openLocalDoor(localUrl, { root, store, clock, nodeId }));
  answers();
  const owned = parts.move();
  return { url, key, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const { runCli, reportDefect } = await import("./cli/cli.ts");
// What nobody caught is a defect of ours; it is told in one line like every other error, and a terminal in raw mode is given back on exit.
process.on("uncaughtException", (error) => process.exit(reportDefect(error, process.argv.slice(2))));
process.exit(await runCli(process.argv.slice(2), host));
