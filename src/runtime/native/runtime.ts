// The native runtime: our spawner and our guest. Holds one spawner (started anew when it was lost) and knows which containers live.
// Invariant: `create` returns a container whose handshake was compared, or throws after everything of it was taken away.

import { existsSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { CorralError, errorCode } from "../../api/errors.ts";
import type { RuntimeUsage } from "../../api/corral.ts";
import type { RuntimeName } from "../../api/sandbox.ts";
import { identify, type ProcessIdentity } from "../../base/process-identity.ts";
import type { IdMap, OverlayMount, RunTool } from "../../view/view.ts";
import type { AttachSpec, Container, ContainerSpec, Runtime, RuntimeProbe } from "../runtime.ts";
import { removeCgroups } from "./cgroup-leftovers.ts";
import { type CgroupParents, findCgroups, freezerOf } from "./cgroups.ts";
import { cgroupUsage } from "./cgroup-usage.ts";
import { GuestContainer } from "./container.ts";
import { containerUsage } from "./container-usage.ts";
import { createRecords, overlayRecords } from "./create-records.ts";
import { compareReady, ownNamespaces } from "./handshake.ts";
import { type LiveSpawner, openSpawner } from "./live.ts";
import type { Death, Spawner, SpawnerOptions } from "./spawner.ts";
import { withNetwork } from "./network.ts";
import { findSubIds } from "./subids.ts";

export interface NativeOptions {
  /** `corral-guest`, static. */
  readonly guestBinary: string;
  /** Private directory for sockets; short, since a socket's path holds at most 107 bytes. */
  readonly runDir: string;
  readonly mode: "auto" | "root" | "rootless";
  /** For negative controls: containers may leave out steps. */
  readonly allowWeaken?: boolean;
  /**
   * For servers: sandboxes outlive this process. Their spawner waits so many ms for the next one, which must be opened with the same
   * run directory. Absent: they end with it.
   */
  readonly waitMs?: number;
  /** Tests alone, with `allowWeaken`: every create fails at this step. */
  readonly failStep?: number;
  /** BPF program of the sandboxes (runtime/seccomp). */
  readonly seccomp: Uint8Array;
  /** First outside id of sandboxes as root; absent: that of every sandbox of this machine. */
  readonly idBase?: number;
  /** Another program builds the root inside what the spawner made (runtime/bwrap); absent: the spawner does. */
  readonly foreign?: ForeignRoot;
}

export interface ForeignRoot {
  readonly name: RuntimeName;
  /** Its command line for one sandbox (PROTOCOL.md, `launch`). */
  readonly argv: (spec: ContainerSpec) => readonly string[];
  readonly features: Readonly<Record<string, string>>;
}

/** First outside id of sandboxes as root: above what distributions, systemd-nspawn and /etc/subuid hand out. */
const ROOT_ID_BASE = 1_879_048_192;
const ROOT_ID_COUNT = 65_536;
/** Inside id of ordinary commands. */
const USER_ID = 1_000;
const SOCKET_PATH_BYTES = 107;
const READ_BUFFER_BYTES = 256 * 1024;

/** Starts a spawner to see whether it can; never throws for what the machine lacks. */
export async function probeNative(options: NativeOptions): Promise<RuntimeProbe> {
  try {
    await using runtime = await openNativeRuntime(options);
    return runtime.probe;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { name: "native", available: false, reason, mode: modeOf(options), weakenings: [], features: {} };
  }
}

/** Throws `runtime_unavailable` with the reason and what mends it. */
export async function openNativeRuntime(options: NativeOptions): Promise<Runtime> {
  const mode = modeOf(options);
  if (!existsSync(options.guestBinary))
    throw new CorralError("guest_missing", `${options.guestBinary} is not there; build it with: guest/make.sh`);
  const rootless = mode === "rootless" ? findSubIds() : undefined;
  if (rootless !== undefined && "reason" in rootless)
    throw new CorralError("runtime_unavailable", `the native runtime needs a range of ids: ${rootless.reason}`);
  const count = rootless?.count ?? ROOT_ID_COUNT;
  const user = Math.min(USER_ID, count - 1);
  const ids: IdMap = {
    base: rootless === undefined ? (options.idBase ?? ROOT_ID_BASE) : 1,
    count,
    uid: user,
    gid: user,
    trusted: rootless === undefined,
  };
  const runtime = new NativeRuntime({ options, ids, mode, rootless });
  try {
    await runtime.start();
  } catch (cause) {
    await runtime[Symbol.asyncDispose]();
    const mend = whatMends(mode);
    throw new CorralError("runtime_unavailable", `the ${runtime.name} runtime cannot start: ${(cause as Error).message}${mend}`, { cause });
  }
  return runtime;
}

function modeOf(options: NativeOptions): "root" | "rootless" {
  if (options.mode !== "auto") return options.mode;
  return process.geteuid?.() === 0 ? "root" : "rootless";
}

/** What is known here; `corral doctor` looks at the machine itself. */
function whatMends(mode: "root" | "rootless"): string {
  const container =
    mode === "root" ? "; as root it needs CAP_SYS_ADMIN, which many containers lack: run Corral as an ordinary user there" : "";
  return `${container}; ./corral doctor names what is missing and the command that mends it`;
}

/** The socket at which a spawner of this runtime waits for the next server. */
export function spawnerSocket(runDir: string, name: RuntimeName): string {
  return join(runDir, `${name}.spawner`);
}

interface Parts {
  readonly options: NativeOptions;
  readonly ids: IdMap;
  readonly mode: "root" | "rootless";
  readonly rootless: SpawnerOptions["rootless"];
}

class NativeRuntime implements Runtime {
  readonly name: RuntimeName;
  readonly ids: IdMap;
  readonly tool: RunTool;
  readonly #parts: Parts;
  readonly #readBuffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
  readonly #outside = ownNamespaces();
  readonly #self = ownIdentity();
  readonly #containers = new Map<string, GuestContainer>();
  /** Ids whose create is under way, and what was told of them meanwhile. */
  readonly #creating = new Map<string, Death | undefined>();
  readonly #adopted = new Set<string>();
  /** Of this process; a spawner that outlives it has its own. */
  readonly #cgroups: CgroupParents | undefined;
  /** Of spawners that were lost before their time; what lived in them is gone. */
  readonly #pastCgroups: CgroupParents[] = [];
  #live: LiveSpawner | undefined;
  #starting: Promise<LiveSpawner> | undefined;
  #probe: RuntimeProbe | undefined;
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.name = parts.options.foreign?.name ?? "native";
    this.ids = parts.ids;
    this.tool = (argv, input) => {
      if (this.#live === undefined) throw new CorralError("spawner_lost", "the spawner is gone; the next create starts a new one");
      return this.#live.spawner.tool(argv, input);
    };
    this.#cgroups = parts.options.waitMs === undefined ? findCgroups(parts.mode === "root") : undefined;
  }

  /** A foreign root is not ours to add to. */
  get late(): boolean {
    return this.#parts.options.foreign === undefined;
  }

  get probe(): RuntimeProbe {
    if (this.#probe === undefined) throw new CorralError("internal", "the runtime was asked before it was started");
    return this.#probe;
  }

  get keeper(): ProcessIdentity {
    return this.#live?.keeper ?? this.#self;
  }

  get adopted(): ReadonlySet<string> {
    return this.#adopted;
  }

  async start(): Promise<void> {
    const { cgroups, facts, adopted } = await this.#current();
    const { ids, mode, options } = this.#parts;
    for (const id of adopted) this.#adopted.add(id);
    this.#probe = {
      name: this.name,
      available: true,
      reason: "",
      mode,
      weakenings: cgroups.weakenings,
      features: {
        ...Object.fromEntries(facts),
        cgroup: cgroups.mode,
        freezer: freezerOf(cgroups),
        ids: String(ids.count),
        ...options.foreign?.features,
      },
    };
  }

  async create(asked: ContainerSpec): Promise<Container> {
    const began = performance.now();
    const spec = withNetwork(asked, this.#parts.options.guestBinary, this.ids.trusted);
    if (this.#containers.has(spec.id) || this.#creating.has(spec.id))
      throw new CorralError("sandbox_state", `a container named ${spec.id} exists; use another id`);
    const socketPath = this.#socketPath(spec.id);
    const live = await this.#current();
    this.#creating.set(spec.id, undefined);
    let container: GuestContainer | undefined;
    try {
      const made = await live.spawner.create([...createRecords(spec, this.ids, socketPath), ...this.#launch(spec)]);
      const timings: Record<string, number> = { ...made.timings };
      container = this.#connect({ ...spec, networked: spec.network !== undefined }, live, timings);
      await this.#compared(container, spec);
      timings["createMs"] = performance.now() - began;
      return container;
    } catch (error) {
      await container?.destroy();
      throw error;
    } finally {
      this.#creating.delete(spec.id);
    }
  }

  async attach(spec: AttachSpec): Promise<Container> {
    const live = await this.#current();
    if (!this.#adopted.delete(spec.id))
      throw new CorralError("sandbox_state", `no container named ${spec.id} was left by an earlier process, or it was taken already`);
    const container = this.#connect(spec, live, {});
    try {
      if (freezerOf(live.cgroups) !== "none") await container.thaw(); // it may have been left standing still, and then answers nothing
      // Commands have run in it, so what it says of its walls proves nothing. It shows that this is the guest that was made.
      await this.#compared(container, spec);
      return container;
    } catch (error) {
      await container.destroy();
      throw error;
    }
  }

  async clear(id: string, scrub: readonly string[] = []): Promise<void> {
    this.#adopted.delete(id);
    await this.#endContainer(id, await this.#current(), scrub);
  }

  usage(): RuntimeUsage {
    return { sandboxes: this.#containers.size, ...cgroupUsage(this.#live?.cgroups) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#live?.spawner.close();
    for (const container of [...this.#containers.values()])
      container.died({ id: container.id, step: 0, errno: 0, code: "create_failed", reason: "the runtime was closed" });
    for (const cgroups of new Set([...this.#pastCgroups, this.#live?.cgroups ?? this.#cgroups])) await cgroups?.remove();
  }

  async #compared(container: GuestContainer, { weaken = [], root = false }: AttachSpec): Promise<void> {
    compareReady(await container.ready, { weaken, rootOffered: root, outside: this.#outside });
  }

  /** PID 1, a foreign runtime's own, the egress relay. */
  #ownProcesses({ networked = false }: AttachSpec): number {
    return 1 + (this.#parts.options.foreign === undefined ? 0 : 1) + (networked ? 1 : 0);
  }

  #launch(spec: ContainerSpec): string[][] {
    return (this.#parts.options.foreign?.argv(spec) ?? []).map((word) => ["launch", word]);
  }

  #socketPath(id: string): string {
    const path = join(this.#parts.options.runDir, `${id}.s`);
    if (Buffer.byteLength(path) > SOCKET_PATH_BYTES)
      throw new CorralError(
        "create_failed",
        `the path of a socket would be longer than ${SOCKET_PATH_BYTES} bytes; use a data directory with a shorter path`,
      );
    return path;
  }

  #connect(spec: AttachSpec, live: LiveSpawner, timings: Readonly<Record<string, number>>): GuestContainer {
    const container = new GuestContainer({
      id: spec.id,
      socketPath: this.#socketPath(spec.id),
      readBuffer: this.#readBuffer,
      timings,
      weakenings: [...live.cgroups.weakenings, ...(spec.weaken ?? []).map((step) => `step-${step}-left-out`)],
      end: (scrub) => this.#endContainer(spec.id, live, scrub),
      mount: (overlay) => this.#mount(spec.id, live, overlay),
      lateEnv: spec.lateEnv ?? {},
      freeze: (frozen) => this.#freeze(spec.id, live, frozen),
      measure: async () => await containerUsage(await live.spawner.stats(spec.id), this.#ownProcesses(spec)),
      onGone: () => this.#containers.delete(spec.id),
    });
    this.#containers.set(spec.id, container);
    const death = this.#creating.get(spec.id);
    if (death !== undefined) container.died(death);
    return container;
  }

  async #mount(id: string, { spawner }: LiveSpawner, overlay: OverlayMount): Promise<void> {
    if (!this.late) throw new CorralError("runtime_unavailable", `a sandbox of ${this.name} takes no mount once it was made`);
    await spawner.mount(id, overlayRecords(overlay));
  }

  async #freeze(id: string, { spawner, cgroups }: LiveSpawner, frozen: boolean): Promise<boolean> {
    if (freezerOf(cgroups) === "none")
      throw new CorralError(
        "runtime_unavailable",
        "no cgroup of this machine can freeze a sandbox, which needs a cgroup2 tree or a v1 freezer; pause it without its memory",
      );
    return await spawner.freeze(id, frozen);
  }

  async #endContainer(id: string, { spawner, cgroups }: LiveSpawner, scrub: readonly string[]): Promise<void> {
    try {
      await spawner.destroy(id, scrub);
    } catch (error) {
      if (errorCode(error) !== "spawner_lost") throw error;
      if (this.#closed) return; // it has taken everything down before it left
      // Its processes died with it; cgroups, socket and trees are left. DESTROY is level-triggered: a new spawner can do it.
      const fresh = await this.#current();
      await fresh.spawner.destroy(id, scrub);
      if (fresh.cgroups !== cgroups) await removeCgroups(dirsOf(cgroups), id);
      removeIfThere(this.#socketPath(id));
    }
  }

  #current(): Promise<LiveSpawner> {
    if (this.#closed) return Promise.reject(new CorralError("spawner_lost", "the runtime was closed"));
    if (this.#live !== undefined) return Promise.resolve(this.#live);
    this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #start(): Promise<LiveSpawner> {
    const { options, rootless, mode } = this.#parts;
    const { guestBinary, allowWeaken = false, failStep, waitMs, seccomp } = options;
    this.#live = await openSpawner({
      options: {
        guestBinary,
        allowWeaken,
        ...(rootless === undefined ? {} : { rootless }),
        ...(failStep === undefined ? {} : { failStep }),
        ...(waitMs === undefined ? {} : { lasting: { socket: spawnerSocket(options.runDir, this.name), waitMs } }),
      },
      events: { onDied: (death) => this.#onDied(death), onLost: (spawner, reason) => this.#onLost(spawner, reason) },
      root: mode === "root",
      seccomp,
      cgroups: this.#cgroups,
      self: this.#self,
    });
    return this.#live;
  }

  #onDied(death: Death): void {
    this.#adopted.delete(death.id);
    const container = this.#containers.get(death.id);
    if (container !== undefined) container.died(death);
    else if (this.#creating.has(death.id)) this.#creating.set(death.id, death);
  }

  #onLost(spawner: Spawner, reason: string): void {
    if (this.#live?.spawner !== spawner) return;
    this.#pastCgroups.push(this.#live.cgroups);
    this.#adopted.clear();
    this.#live = undefined;
    for (const container of [...this.#containers.values()])
      container.died({ id: container.id, step: 0, errno: 0, code: "create_failed", reason });
  }
}

function ownIdentity(): ProcessIdentity {
  const self = identify(process.pid);
  if (self === undefined)
    throw new CorralError(
      "internal",
      "this process cannot read /proc/self/stat, so its sandboxes could not be told from leftovers; mount /proc",
    );
  return self;
}

function dirsOf({ v1, v2 }: CgroupParents): readonly string[] {
  return [...v1.map(({ dir }) => dir), ...(v2 === undefined ? [] : [v2.dir])];
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
