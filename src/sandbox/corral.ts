// Corral in this process over one data directory: the client that commands see, built from the rooms. It composes; each act is elsewhere.
// Invariant: before the first sandbox is made, what runs that were cut off left behind is cleared or adopted; when it is disposed
// of, every sandbox of it is gone.

import type { CensusEntry, Corral, Deltas, DoctorReport, Reaped, RuntimeUsage } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import type { CreateRequest, RuntimeName, Sandbox } from "../api/sandbox.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { engineNeeds } from "../policy/auto-engine.ts";
import type { StoredCodebases } from "../view/stored.ts";
import type { RunTool } from "../view/view.ts";
import { LocalDeltas } from "./deltas.ts";
import { createSandbox } from "./create.ts";
import { type DataDir, openDataDir } from "./data-dir.ts";
import { loadPolicy } from "./policies.ts";
import { NOTHING_REAPED, settle } from "./settle.ts";
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
  /** For negative controls of the security suite alone: containment steps that every sandbox leaves out. */
  readonly weaken?: readonly number[];
}

export async function openLocalCorral(options: LocalCorralOptions): Promise<Corral> {
  const data = openDataDir({ env: options.env, uid: options.uid, ...(options.dataDir === undefined ? {} : { path: options.dataDir }) });
  const corral = new LocalCorral(data, options);
  try {
    await corral.begin();
  } catch (error) {
    await corral[Symbol.asyncDispose]();
    throw error;
  }
  return corral;
}

class LocalCorral implements Corral {
  readonly policies: Corral["policies"] = {
    load: loadPolicy,
    lint: async (file) => (await import("./policy-questions.ts")).lintFile(file),
    explain: async (policy, path, dir) => (await import("./policy-questions.ts")).explainPath(policy, path, dir),
    check: async (policy, dir) => (await import("./policy-questions.ts")).checkDir(policy, dir),
  };
  readonly deltas: Deltas;
  readonly #data: DataDir;
  readonly #clock: Clock;
  readonly #options: WorkshopOptions;
  readonly #workshops: Workshops;
  readonly #sandboxes = new Map<string, Sandbox>();
  #reaped = NOTHING_REAPED;

  constructor(data: DataDir, options: LocalCorralOptions) {
    this.#data = data;
    this.#clock = options.clock ?? systemClock;
    const { guestFile, env, uid, stored, weaken = [] } = options;
    const known = stored === undefined ? {} : { stored };
    this.#options = { data, clock: this.#clock, guestFile, env, uid, weaken, ...known, onGone: (id) => this.#sandboxes.delete(id) };
    this.#workshops = new Workshops(this.#options);
    this.deltas = new LocalDeltas({ data, ...known, openTool: () => this.#openTool(), isLive: (id) => this.#sandboxes.has(id) });
  }

  async #openTool(): Promise<RunTool> {
    return (await this.#workshops.any()).runtime.tool;
  }

  get reaped(): Reaped {
    return this.#reaped;
  }

  async begin(): Promise<void> {
    this.#reaped = await settle({ data: this.#data, clock: this.#clock, openTool: () => this.#openTool() });
  }

  async create(request: CreateRequest): Promise<Sandbox> {
    const startedMs = this.#clock.monotonicMs();
    const engineReason = chooseEngine(request);
    const { shop, reasons } = await this.#workshops.choose(request.runtime);
    const timings = { probeMs: this.#clock.monotonicMs() - startedMs };
    const sandbox = await createSandbox(shop, request, { engine: "kernel", reasons: [...reasons, engineReason], timings });
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

  usage(): Promise<ReadonlyMap<RuntimeName, RuntimeUsage>> {
    return this.#workshops.usage();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#sandboxes.values()].map((sandbox) => sandbox.destroy()));
    await this.#workshops[Symbol.asyncDispose]();
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
