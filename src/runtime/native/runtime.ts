// The native runtime: our spawner and our guest. Holds one spawner (started anew when it was lost) and knows which containers live.
// Invariant: `create` returns a container whose handshake was compared, or throws after everything of it was taken away.

import { existsSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { CorralError, errorCode } from "../../api/errors.ts";
import type { RuntimeName } from "../../api/sandbox.ts";
import type { IdMap, RunTool } from "../../view/view.ts";
import type { Container, ContainerSpec, Runtime, RuntimeProbe } from "../runtime.ts";
import { type CgroupParents, findCgroups, freezerOf } from "./cgroups.ts";
import { GuestContainer } from "./container.ts";
import { createRecords } from "./create-records.ts";
import { compareReady, ownNamespaces } from "./handshake.ts";
import { type Death, Spawner, type SpawnerOptions } from "./spawner.ts";
import { findSubIds } from "./subids.ts";

export interface NativeOptions {
  /** `corral-guest`, static. */
  readonly guestBinary: string;
  /** Private directory for sockets; short, since a socket's path holds at most 107 bytes. */
  readonly runDir: string;
  readonly mode: "auto" | "root" | "rootless";
  /** For negative controls: containers may leave out steps. */
  readonly allowWeaken?: boolean;
  /** Tests alone, with `allowWeaken`: every create fails at this step. */
  readonly failStep?: number;
  /** BPF program of the sandboxes (runtime/seccomp). */
  readonly seccomp: Uint8Array;
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
/** Bytes of filter in one record. */
const HEX_BYTES = 16 * 1024;
/** Descriptors that the spawner may hold: four for each sandbox. */
const SPAWNER_FILES = 65_536;

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
  const ids: IdMap = { base: rootless === undefined ? ROOT_ID_BASE : 1, count, uid: user, gid: user, trusted: rootless === undefined };
  const cgroups = findCgroups(mode === "root");
  const runtime = new NativeRuntime({ options, ids, cgroups, rootless });
  try {
    await runtime.start(mode);
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

interface Parts {
  readonly options: NativeOptions;
  readonly ids: IdMap;
  readonly cgroups: CgroupParents;
  readonly rootless: SpawnerOptions["rootless"];
}

class NativeRuntime implements Runtime {
  readonly name: RuntimeName;
  readonly ids: IdMap;
  readonly tool: RunTool;
  readonly #parts: Parts;
  readonly #readBuffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
  readonly #outside = ownNamespaces();
  readonly #containers = new Map<string, GuestContainer>();
  /** Ids whose create is under way, and what was told of them meanwhile. */
  readonly #creating = new Map<string, Death | undefined>();
  #live: Spawner | undefined;
  #starting: Promise<Spawner> | undefined;
  #facts: ReadonlyMap<string, string> = new Map();
  #probe: RuntimeProbe | undefined;
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.name = parts.options.foreign?.name ?? "native";
    this.ids = parts.ids;
    this.tool = (argv, input) => {
      if (this.#live === undefined) throw new CorralError("spawner_lost", "the spawner is gone; the next create starts a new one");
      return this.#live.tool(argv, input);
    };
  }

  get probe(): RuntimeProbe {
    if (this.#probe === undefined) throw new CorralError("internal", "the runtime was asked before it was started");
    return this.#probe;
  }

  async start(mode: "root" | "rootless"): Promise<void> {
    await this.#current();
    const { cgroups, ids } = this.#parts;
    this.#probe = {
      name: this.name,
      available: true,
      reason: "",
      mode,
      weakenings: cgroups.weakenings,
      features: {
        ...Object.fromEntries(this.#facts),
        cgroup: cgroups.mode,
        freezer: freezerOf(cgroups),
        ids: String(ids.count),
        ...this.#parts.options.foreign?.features,
      },
    };
  }

  async create(spec: ContainerSpec): Promise<Container> {
    const began = performance.now();
    if (this.#containers.has(spec.id) || this.#creating.has(spec.id))
      throw new CorralError("sandbox_state", `a container named ${spec.id} exists; use another id`);
    const socketPath = this.#socketPath(spec.id);
    const spawner = await this.#current();
    this.#creating.set(spec.id, undefined);
    let container: GuestContainer | undefined;
    try {
      const made = await spawner.create([...createRecords(spec, this.ids, socketPath), ...this.#launch(spec)]);
      const timings: Record<string, number> = { ...made.timings };
      container = this.#connect(spec, socketPath, spawner, timings);
      const ready = await container.ready;
      compareReady(ready, { weaken: spec.weaken ?? [], rootOffered: spec.root === true, outside: this.#outside });
      timings["createMs"] = performance.now() - began;
      return container;
    } catch (error) {
      await container?.destroy();
      throw error;
    } finally {
      this.#creating.delete(spec.id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#live?.close();
    for (const container of [...this.#containers.values()])
      container.died({ id: container.id, step: 0, errno: 0, code: "create_failed", reason: "the runtime was closed" });
    this.#parts.cgroups.remove();
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

  #connect(spec: ContainerSpec, socketPath: string, spawner: Spawner, timings: Readonly<Record<string, number>>): GuestContainer {
    const container = new GuestContainer({
      id: spec.id,
      socketPath,
      readBuffer: this.#readBuffer,
      timings,
      weakenings: [...this.#parts.cgroups.weakenings, ...(spec.weaken ?? []).map((step) => `step-${step}-left-out`)],
      end: (scrub) => this.#endContainer(spec.id, socketPath, spawner, scrub),
      freeze: (frozen) => this.#freeze(spec.id, spawner, frozen),
      onGone: () => this.#containers.delete(spec.id),
    });
    this.#containers.set(spec.id, container);
    const death = this.#creating.get(spec.id);
    if (death !== undefined) container.died(death);
    return container;
  }

  async #freeze(id: string, spawner: Spawner, frozen: boolean): Promise<boolean> {
    if (freezerOf(this.#parts.cgroups) === "none")
      throw new CorralError(
        "runtime_unavailable",
        "no cgroup of this machine can freeze a sandbox, which needs a cgroup2 tree or a v1 freezer; pause it without its memory",
      );
    return await spawner.freeze(id, frozen);
  }

  async #endContainer(id: string, socketPath: string, spawner: Spawner, scrub: readonly string[]): Promise<void> {
    try {
      await spawner.destroy(id, scrub);
    } catch (error) {
      if (errorCode(error) !== "spawner_lost") throw error;
      if (this.#closed) return; // it has taken everything down before it left
      // Its processes died with it; cgroups, socket and trees are left. DESTROY is level-triggered: a new spawner can do it.
      const fresh = await this.#current();
      await fresh.destroy(id, scrub);
      removeIfThere(socketPath);
    }
  }

  #current(): Promise<Spawner> {
    if (this.#closed) return Promise.reject(new CorralError("spawner_lost", "the runtime was closed"));
    if (this.#live !== undefined) return Promise.resolve(this.#live);
    this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #start(): Promise<Spawner> {
    const { options, rootless } = this.#parts;
    const spawner: Spawner = new Spawner({
      guestBinary: options.guestBinary,
      ...(rootless === undefined ? {} : { rootless }),
      allowWeaken: options.allowWeaken === true,
      ...(options.failStep === undefined ? {} : { failStep: options.failStep }),
      onDied: (death) => this.#onDied(death),
      onLost: (reason) => this.#onLost(spawner, reason),
    });
    try {
      this.#facts = await spawner.configure(configuration(this.#parts));
    } catch (error) {
      await spawner.close();
      throw error;
    }
    this.#live = spawner;
    return spawner;
  }

  #onDied(death: Death): void {
    const container = this.#containers.get(death.id);
    if (container !== undefined) container.died(death);
    else if (this.#creating.has(death.id)) this.#creating.set(death.id, death);
  }

  #onLost(spawner: Spawner, reason: string): void {
    if (this.#live !== spawner) return;
    this.#live = undefined;
    for (const container of [...this.#containers.values()])
      container.died({ id: container.id, step: 0, errno: 0, code: "create_failed", reason });
  }
}

function configuration(parts: Parts): string[][] {
  const records: string[][] = [["nofile", String(SPAWNER_FILES)]];
  const hex = Buffer.from(parts.options.seccomp).toString("hex");
  for (let at = 0; at < hex.length; at += HEX_BYTES) records.push(["seccomp", hex.slice(at, at + HEX_BYTES)]);
  const { v1, v2 } = parts.cgroups;
  if (v2 !== undefined) records.push(["cg2", v2.dir, v2.controllers.join(",")]);
  for (const { controller, dir } of v1) records.push(["cg1", controller, dir]);
  return records;
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
