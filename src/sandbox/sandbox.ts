// A sandbox of this process: its identity and its life. What runs in it is exec.ts's, how it is made create.ts's.
// Invariant: after `destroy` or loss no kernel object of it is left and its journal file is gone, in this order; nothing is started in
// a sandbox that is going away.

import { CorralError } from "../api/errors.ts";
import { ID_PREFIX } from "../api/ids.ts";
import { MAX_EXECS } from "../api/limits.ts";
import type { FileCalls } from "../api/files.ts";
import type { SandboxMetrics } from "../api/metrics.ts";
import type { LimitHit } from "../api/limit-hit.ts";
import type { CreateRequest, ExecRequest, ExecResult, PortConnection, Process, Sandbox, SandboxInfo } from "../api/sandbox.ts";
import type { Clock } from "../base/clock.ts";
import type { Container } from "../runtime/runtime.ts";
import { dialPort } from "./dial.ts";
import { startExec } from "./exec.ts";
import { LocalFiles } from "./files/files.ts";
import { Contexts } from "./interpreters/contexts.ts";
import type { KeptContext } from "./kept-set.ts";
import type { HeldLimits } from "./limits.ts";
import { Metrics } from "./metrics.ts";
import { Processes } from "./processes.ts";
import { Roster } from "./roster.ts";
import { Shells } from "./shells.ts";
import type { QuotaHit, QuotaWatcher } from "./watcher.ts";

export interface SandboxParts {
  readonly container: Container;
  readonly request: CreateRequest;
  readonly info: Omit<SandboxInfo, "state">;
  readonly clock: Clock;
  readonly watcher: QuotaWatcher;
  readonly limits: HeldLimits;
  /** What Python has imported before the first call; absent: the usual ones. */
  readonly pythonModules: readonly string[] | undefined;
  /** Trees that go with it when it is destroyed. */
  readonly scrub: readonly string[];
  /** Writes down, or forgets, that it is paused and what making it again takes. */
  readonly hold: (paused: boolean) => void;
  /** Releases what lies outside of the container: delta, view, journal. Called once, after the container is gone. */
  readonly release: (end: End) => Promise<void>;
}

/** `paused`: the delta waits for a sandbox that is made again over it. */
export type End = "destroyed" | "lost" | "paused";

export class LocalSandbox implements Sandbox {
  readonly id: string;
  readonly files: FileCalls;
  readonly processes: Processes;
  readonly shells: Shells;
  readonly contexts: Contexts;
  /** As it was made. */
  readonly request: CreateRequest;
  readonly #parts: SandboxParts;
  readonly #roster: Roster;
  readonly #metrics: Metrics;
  #state: SandboxInfo["state"] = "running";
  /** While paused: whether its processes are kept. */
  #memory = false;
  /** A snapshot is being taken. */
  #still = false;
  #lostReason = "";
  #execs = 0;
  #ending: Promise<void> | undefined;

  constructor(parts: SandboxParts) {
    this.id = parts.container.id;
    this.request = parts.request;
    this.#parts = parts;
    this.files = new LocalFiles({
      container: parts.container,
      refusal: () => this.#refusal(),
      guard: (hit) => parts.watcher.guard(this.id, hit),
      over: () => parts.watcher.over(this.id),
    });
    this.#metrics = new Metrics(parts);
    const { container, clock } = parts;
    this.#roster = new Roster(clock);
    const context: KeptContext = {
      ...{ container, clock, roster: this.#roster },
      guard: (hit) => this.#guard(hit),
      demand: () => {
        const refusal = this.#refusal();
        if (refusal !== undefined) throw refusal;
      },
      forget: (id) => {
        if (this.#state === "running") container.forget(id);
      },
    };
    this.processes = new Processes(context);
    this.shells = new Shells(context);
    this.contexts = new Contexts(context, this.shells, parts.pythonModules);
    void parts.container.lost.then((reason) => this.#lose(reason));
  }

  info(): SandboxInfo {
    const memory = this.#state === "paused" ? { memory: this.#memory } : {};
    return { ...this.#parts.info, state: this.#state, ...memory };
  }

  async metrics(): Promise<SandboxMetrics> {
    const refusal = this.#state === "paused" && this.#memory ? undefined : this.#refusal();
    if (refusal !== undefined) throw refusal;
    return await this.#metrics.read(this.#state === "paused" ? "paused" : "running");
  }

  async exec(request: ExecRequest): Promise<ExecResult> {
    const running = await this.start(request);
    return await running.result;
  }

  start(request: ExecRequest): Promise<Process> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const { container, clock, watcher } = this.#parts;
    return startExec({ container, clock, guard: (hit) => this.#guard(hit), isDiskFull: () => watcher.isDiskFull() }, request);
  }

  connect(port: number): Promise<PortConnection> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return dialPort({ container: this.#parts.container, guard: (hit) => this.#guard(hit) }, port);
  }

  /** What runs counts, and is told when the delta passes a limit. Returns what is called at its end. */
  #guard(hit: (limit: LimitHit) => void): () => void {
    const release = this.#parts.watcher.guard(this.id, hit);
    this.#execs += 1;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#execs -= 1;
      release();
    };
  }

  /** Processes and shells that an earlier server started in the same container. */
  async takeUp(): Promise<void> {
    for (const command of await this.#parts.container.kept()) {
      if (command.key.startsWith(ID_PREFIX.process)) await this.processes.takeUp(command);
      else if (command.key.startsWith(ID_PREFIX.shell)) await this.shells.takeUp(command);
    }
  }

  async pause(memory: boolean): Promise<void> {
    const refusal = this.#state === "paused" ? undefined : this.#refusal();
    if (refusal !== undefined) throw refusal;
    this.#demandMovable();
    const isPaused = this.#state === "paused";
    if (isPaused && this.#memory === memory) return await this.#ending;
    if (isPaused && memory)
      throw new CorralError("sandbox_state", `the sandbox ${this.id} is paused without its processes; resume it first`);
    this.#parts.hold(true);
    this.#state = "paused";
    this.#memory = memory;
    await (memory ? this.#freeze() : this.#end("paused"));
  }

  async resume(): Promise<void> {
    if (this.#state === "running") return;
    if (this.#state !== "paused" || !this.#memory)
      throw this.#refusal() ?? new CorralError("sandbox_state", `the sandbox ${this.id} cannot go on; it is to be made again`);
    this.#demandMovable();
    await this.#parts.container.thaw();
    this.#goOn();
  }

  /** While `act` runs nothing in it does: what lies in its delta holds still. */
  async standStill<T>(act: () => Promise<T>): Promise<T> {
    const refusal = this.#state === "paused" && this.#memory ? undefined : this.#refusal();
    if (refusal !== undefined) throw refusal;
    this.#demandMovable();
    const isPaused = this.#state === "paused";
    this.#still = true;
    try {
      if (!isPaused) await this.#parts.container.freeze();
      return await act();
    } finally {
      this.#still = false;
      if (!isPaused && this.#state === "running") await this.#parts.container.thaw();
    }
  }

  #demandMovable(): void {
    if (this.#still) throw new CorralError("sandbox_state", `a snapshot of the sandbox ${this.id} is being taken; try again`);
  }

  async #freeze(): Promise<void> {
    try {
      await this.#parts.container.freeze();
    } catch (error) {
      this.#goOn();
      throw error;
    }
  }

  /** Unless it was lost or destroyed meanwhile. */
  #goOn(): void {
    if (this.#state !== "paused" || !this.#memory) return;
    this.#state = "running";
    this.#parts.hold(false);
  }

  #refusal(): CorralError | undefined {
    if (this.#state === "paused") return new CorralError("sandbox_state", `the sandbox ${this.id} is paused; resume it first`);
    if (this.#state === "failed") return new CorralError("sandbox_lost", `the sandbox ${this.id} is gone: ${this.#lostReason}`);
    if (this.#state === "destroyed") return new CorralError("sandbox_not_found", `the sandbox ${this.id} was destroyed`);
    if (this.#execs >= MAX_EXECS)
      return new CorralError("limit_reached", `the sandbox ${this.id} runs ${MAX_EXECS} commands already; wait until one has ended`);
    return undefined;
  }

  destroy(): Promise<void> {
    if (this.#state === "running" || this.#memory) this.#state = "destroyed";
    this.#memory = false;
    return this.#end("destroyed");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }

  /** What a command left running fills the disk and no command is there to be told: the sandbox ends. */
  runaway(limit: QuotaHit): void {
    this.#lose(`processes that a command left behind passed its ${limit} limit`);
  }

  #lose(reason: string): void {
    if (this.#state === "paused" && this.#memory) {
      // Its processes are gone, its delta is not: still paused.
      this.#memory = false;
      this.#end("paused").catch(() => undefined);
      return;
    }
    if (this.#state !== "running") return;
    this.#state = "failed";
    this.#lostReason = reason;
    // The failure is told by every later call; what is left over is the reaper's at the next start.
    this.#end("lost").catch(() => undefined);
  }

  /** One ending for all who ask; a failed one may be asked for again. */
  #end(end: End): Promise<void> {
    this.#ending ??= this.#takeApart(end).catch((error: unknown) => {
      this.#ending = undefined;
      throw error;
    });
    return this.#ending;
  }

  async #takeApart(end: End): Promise<void> {
    this.#roster.close();
    this.#parts.watcher.remove(this.id);
    const why = end === "paused" ? "the sandbox was paused without its processes" : undefined;
    await this.#parts.container.destroy(end === "destroyed" ? this.#parts.scrub : [], why);
    await this.#parts.release(end);
  }
}
