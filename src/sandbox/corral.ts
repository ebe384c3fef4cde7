// Corral in this process over one data directory: the client that commands see, built from the rooms. It composes; each act is elsewhere.
// Invariant: before the first sandbox is made, what runs that were cut off left behind is cleared or adopted; when it is disposed
// of, every sandbox of it is gone.

import type { CensusEntry, Corral, Deltas, DoctorReport, PausedSandboxes, PoolPlan, Reaped, RuntimeUsage } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import type { NetworkVerdict } from "../api/network.ts";
import type { CreateRequest, RuntimeName, Sandbox } from "../api/sandbox.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { EgressDoors } from "../egress/doors.ts";
import { engineNeeds } from "../policy/auto-engine.ts";
import type { StoredCodebases } from "../view/stored.ts";
import type { RunTool } from "../view/view.ts";
import type { SandboxDoors } from "./doors.ts";
import { LocalDeltas } from "./deltas.ts";
import { adopt } from "./adopt.ts";
import { createSandbox, type Origin } from "./create.ts";
import type { Workshop } from "./workshop.ts";
import { type DataDir, openDataDir } from "./data-dir.ts";
import { LocalPaused } from "./paused.ts";
import { loadPolicy } from "./policies.ts";
import { Pool } from "./pool.ts";
import type { LocalSandbox } from "./sandbox.ts";
import { NOTHING_REAPED, settle } from "./settle.ts";
import { LocalSnapshots } from "./snapshots.ts";
import { type WorkshopOptions, Workshops } from "./workshops.ts";

export interface LocalCorralOptions {
  /** As given; absent = the default place. */
  readonly dataDir?: string;
  /** The guest program. */
  readonly guestFile: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  readonly clock?: Clock;
  /** Absent: only directories can be a base. */
  readonly stored?: StoredCodebases;
  /** For servers: sandboxes outlive this process, and those that an earlier one left are taken over at the start. */
  readonly lasting?: boolean;
  /** Absent: no sandbox has a network, unless `onVerdict` is there. */
  readonly doors?: SandboxDoors;
  /** Instead: an egress proxy of its own, for rules without secrets. It is told what was not carried, at the latest when a sandbox was destroyed. */
  readonly onVerdict?: (verdict: NetworkVerdict) => void;
  /** Absent: nothing is started ahead. */
  readonly pool?: PoolPlan;
  /** Imported by Python before the first call of a context; absent: the usual ones. */
  readonly pythonModules?: readonly string[];
  /** For negative controls of the security suite alone: containment steps that every sandbox leaves out. */
  readonly weaken?: readonly number[];
  /** First of the ids outside that sandboxes get as root; absent: the same for every Corral of this machine. */
  readonly idBase?: number;
}

/** The client of this process over a data directory. */
export interface HostCorral extends Corral {
  /** What this start took over, as it was; empty unless `lasting`. Whoever asks answers for their end. */
  readonly adopted: readonly Sandbox[];
}

/** A spawner gives its sandboxes ten seconds to end. */
const ENDING_SPAWNER_MS = 12_000;

export async function openLocalCorral(options: LocalCorralOptions): Promise<HostCorral> {
  const data = openDataDir({ env: options.env, uid: options.uid, ...(options.dataDir === undefined ? {} : { path: options.dataDir }) });
  const own = options.onVerdict === undefined ? undefined : await ownDoors(data, options, options.onVerdict);
  const corral = new LocalCorral(data, { ...options, ...(own === undefined ? {} : { doors: own }) }, own);
  try {
    await corral.begin();
  } catch (error) {
    await corral[Symbol.asyncDispose]();
    throw error;
  }
  return corral;
}

async function ownDoors(data: DataDir, options: LocalCorralOptions, told: (verdict: NetworkVerdict) => void): Promise<EgressDoors> {
  const { openDoors } = await import("./egress-doors.ts");
  const onVerdict = (verdict: NetworkVerdict): void => {
    if (verdict.outcome !== "allowed") told(verdict);
  };
  return openDoors({ data, uid: options.uid, clock: options.clock ?? systemClock, onVerdict });
}

class LocalCorral implements HostCorral {
  readonly policies: Corral["policies"] = {
    load: loadPolicy,
    lint: async (file) => (await import("./policy-questions.ts")).lintFile(file),
    explain: async (policy, path, dir) => (await import("./policy-questions.ts")).explainPath(policy, path, dir),
    check: async (policy, dir) => (await import("./policy-questions.ts")).checkDir(policy, dir),
  };
  readonly deltas: Deltas;
  readonly paused: PausedSandboxes;
  readonly snapshots: LocalSnapshots;
  readonly pool?: Pool;
  /** That ends with it. */
  readonly #own: AsyncDisposable | undefined;
  readonly #data: DataDir;
  readonly #clock: Clock;
  readonly #options: WorkshopOptions;
  readonly #workshops: Workshops;
  readonly #sandboxes = new Map<string, LocalSandbox>();
  #reaped = NOTHING_REAPED;
  #adopted: readonly LocalSandbox[] = [];

  constructor(data: DataDir, options: LocalCorralOptions, own: AsyncDisposable | undefined) {
    this.#own = own;
    this.#data = data;
    this.#clock = options.clock ?? systemClock;
    const { guestFile, env, uid, stored, weaken = [], lasting = false, idBase, doors, pythonModules } = options;
    const known = stored === undefined ? {} : { stored };
    const ways = { ...(doors === undefined ? {} : { doors }), ...(pythonModules === undefined ? {} : { pythonModules }) };
    const ids = idBase === undefined ? {} : { idBase };
    const onGone = (id: string): void => void this.#sandboxes.delete(id);
    this.#options = { data, clock: this.#clock, guestFile, env, uid, weaken, lasting, ...known, ...ways, ...ids, onGone };
    this.#workshops = new Workshops(this.#options);
    const shop = async (): Promise<Workshop> => (await this.#workshops.choose(undefined)).shop;
    if (options.pool !== undefined) this.pool = new Pool({ ...options.pool, clock: this.#clock, shop });
    this.paused = new LocalPaused({
      data,
      openTool: () => this.#openTool(),
      isLive: (id) => this.#sandboxes.has(id),
      remake: (request) => this.#make(request, { from: "pause" }),
    });
    this.snapshots = new LocalSnapshots({
      data,
      openTool: () => this.#openTool(),
      live: (id) => this.#sandboxes.get(id),
      make: (request, origin) => this.#make(request, origin),
    });
    this.deltas = new LocalDeltas({ data, ...known, openTool: () => this.#openTool(), isLive: (id) => this.#sandboxes.has(id) });
  }

  async #openTool(): Promise<RunTool> {
    return (await this.#workshops.any()).runtime.tool;
  }

  get reaped(): Reaped {
    return this.#reaped;
  }

  get adopted(): readonly Sandbox[] {
    return this.#adopted;
  }

  async begin(): Promise<void> {
    const adoptions = await Promise.all((await this.#workshops.left()).map((shop) => adopt(shop)));
    this.#adopted = adoptions.flatMap(({ sandboxes }) => sandboxes);
    for (const sandbox of this.#adopted) this.#sandboxes.set(sandbox.id, sandbox);
    this.#reaped = await settle({
      data: this.#data,
      clock: this.#clock,
      openTool: () => this.#openTool(),
      ended: new Set(adoptions.flatMap(({ ended }) => ended)),
      patienceMs: this.#options.lasting === true ? ENDING_SPAWNER_MS : 0,
    });
    await this.snapshots.sweep();
  }

  create(request: CreateRequest): Promise<Sandbox> {
    return this.#make(request, { from: "request" });
  }

  async #make(request: CreateRequest, origin: Origin): Promise<LocalSandbox> {
    const startedMs = this.#clock.monotonicMs();
    const engineReason = chooseEngine(request);
    const { shop, reasons } = await this.#workshops.choose(request.runtime);
    const warm = origin.from === "request" ? this.pool?.claim(request.id ?? "") : undefined;
    const from: Origin = warm === undefined ? origin : { from: "warm", warm };
    const timings = { probeMs: this.#clock.monotonicMs() - startedMs };
    const sandbox = await createSandbox(shop, request, { engine: "kernel", reasons: [...reasons, engineReason], timings }, from);
    this.#sandboxes.set(sandbox.id, sandbox);
    return sandbox;
  }

  async doctor(): Promise<DoctorReport> {
    const { examine } = await import("./doctor.ts");
    return await examine({ data: this.#data, workshops: this.#workshops, options: this.#options });
  }

  async census(): Promise<readonly CensusEntry[]> {
    const { takeCensus } = await import("./census.ts");
    return takeCensus(this.#data);
  }

  async usage(): Promise<ReadonlyMap<RuntimeName, RuntimeUsage>> {
    // What waits for somebody is counted by the pool.
    const running = [...this.#sandboxes.values()].map((sandbox) => sandbox.info().runtime);
    const used = [...(await this.#workshops.usage())];
    return new Map(used.map(([name, usage]) => [name, { ...usage, sandboxes: running.filter((other) => other === name).length }]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pool?.[Symbol.asyncDispose]();
    await Promise.allSettled([...this.#sandboxes.values()].map((sandbox) => sandbox.destroy()));
    await this.#workshops[Symbol.asyncDispose]();
    await this.#own?.[Symbol.asyncDispose]();
  }
}

/** Why the kernel engine is taken. Throws `engine_unavailable` where the policy needs another and nobody accepted the gap by name. */
function chooseEngine({ engine = "auto", policy }: CreateRequest): string {
  if (engine === "kernel") return "engine kernel: asked for";
  const need = engineNeeds(policy);
  if (need.engine === "kernel") return `engine kernel: ${need.why}`;
  throw new CorralError(
    "engine_unavailable",
    `this policy needs the fuse engine, which this version does not have: ${need.why}. --engine kernel accepts the gap: such names are refused at commit`,
  );
}
