// Opens runtimes and what sandboxes of each are made with, once, when first needed; chooses the runtime where none was named.
// Order of preference: native, then bwrap. Invariant: no fallback is silent: why a runtime was not taken stands in the reasons.

import { existsSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import type { RuntimeUsage } from "../api/corral.ts";
import { SUCCESSOR_WAIT_MS } from "../api/limits.ts";
import type { RuntimeName } from "../api/sandbox.ts";
import type { Clock } from "../base/clock.ts";
import { viewRefusal } from "../runtime/machine.ts";
import { type NativeOptions, openNativeRuntime, spawnerSocket } from "../runtime/native/runtime.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { filterArch, seccompProgram } from "../runtime/seccomp/filter.ts";
import { openKernelView } from "../view/kernel.ts";
import type { StoredCodebases } from "../view/stored.ts";
import type { Workshop } from "./workshop.ts";
import type { SandboxDoors } from "./doors.ts";
import type { DataDir } from "./data-dir.ts";
import { openHostTemplate } from "./template.ts";
import { openStoredTemplates } from "./template-stored.ts";
import { QuotaWatcher } from "./watcher.ts";

export interface WorkshopOptions {
  readonly data: DataDir;
  readonly clock: Clock;
  readonly guestFile: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  readonly stored?: StoredCodebases;
  /** Absent: no sandbox has a network. */
  readonly doors?: SandboxDoors;
  /** Absent: the usual ones. */
  readonly pythonModules?: readonly string[];
  /** Containment steps to leave out; empty outside the security suite. */
  readonly weaken: readonly number[];
  /** First id outside of sandboxes as root; absent: that of every Corral of this machine. */
  readonly idBase?: number;
  /** Sandboxes outlive this process, for the next one to take over. */
  readonly lasting?: boolean;
  readonly onGone: (id: string) => void;
}

export interface Chosen {
  readonly shop: Workshop;
  readonly reasons: readonly string[];
}

const PREFERENCE: readonly RuntimeName[] = ["native", "bwrap"];

export class Workshops {
  readonly #options: WorkshopOptions;
  readonly #watcher: QuotaWatcher;
  readonly #open = new Map<RuntimeName, Promise<Workshop>>();

  constructor(options: WorkshopOptions) {
    this.#options = options;
    this.#watcher = new QuotaWatcher(options.data.deltas, options.clock);
  }

  /** The workshop of the named runtime, or of the first that this machine can have. Throws `runtime_unavailable`. */
  async choose(name: RuntimeName | undefined): Promise<Chosen> {
    if (name !== undefined) return { shop: await this.#get(name), reasons: [`runtime ${name}: asked for`] };
    const refusals: string[] = [];
    for (const candidate of PREFERENCE) {
      try {
        const shop = await this.#get(candidate);
        return { shop, reasons: [...refusals, `runtime ${candidate}: the first of ${PREFERENCE.join(", ")} that works here`] };
      } catch (error) {
        if (!(error instanceof CorralError) || (error.code !== "runtime_unavailable" && error.code !== "engine_unavailable")) throw error;
        refusals.push(`no runtime ${candidate}: ${error.message}`);
      }
    }
    throw new CorralError(
      "runtime_unavailable",
      `no runtime works on this machine; ${refusals.join("; ")}. corral doctor tells what mends it`,
    );
  }

  /** A workshop that is open already, else the first that this machine can have: for host-side tools, which are the same in all. */
  async any(): Promise<Workshop> {
    const [first] = this.#open.values();
    const open = first === undefined ? undefined : await first.catch(() => undefined);
    return open ?? (await this.choose(undefined)).shop;
  }

  async usage(): Promise<ReadonlyMap<RuntimeName, RuntimeUsage>> {
    const found = new Map<RuntimeName, RuntimeUsage>();
    for (const one of await Promise.allSettled(this.#open.values()))
      if (one.status === "fulfilled") found.set(one.value.runtime.name, one.value.runtime.usage());
    return found;
  }

  /** The workshops whose spawner an earlier process left, or a socket of one; empty unless `lasting`. */
  async left(): Promise<readonly Workshop[]> {
    const { lasting = false, data } = this.#options;
    const names = lasting ? PREFERENCE.filter((name) => existsSync(spawnerSocket(data.run, name))) : [];
    return await Promise.all(names.map((name) => this.#get(name)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await Promise.allSettled(this.#open.values());
    this.#open.clear();
    for (const one of opened) if (one.status === "fulfilled") await one.value.runtime[Symbol.asyncDispose]();
  }

  #get(name: RuntimeName): Promise<Workshop> {
    let opening = this.#open.get(name);
    if (opening === undefined) {
      opening = this.#make(name);
      this.#open.set(name, opening);
      // A machine that is mended meanwhile is asked anew.
      opening.catch(() => this.#open.delete(name));
    }
    return opening;
  }

  async #make(name: RuntimeName): Promise<Workshop> {
    const { data, clock, env, guestFile, weaken, lasting = false, onGone, stored, doors, pythonModules } = this.#options;
    if (!existsSync(guestFile))
      throw new CorralError(
        "guest_missing",
        "the guest program is not built; run: ./corral --version (it builds what is missing), or guest/make.sh",
      );
    const runtime = await openRuntime(name, this.#options);
    try {
      const { ids, tool } = runtime;
      const refusal = viewRefusal(release(), ids.trusted ? "root" : "rootless");
      if (refusal !== undefined) throw new CorralError("engine_unavailable", refusal);
      const view = openKernelView({ tool, ids, cacheDir: data.masks, holder: () => runtime.keeper });
      const template = openHostTemplate({
        dataDir: data.root,
        path: env["PATH"] ?? "/usr/bin:/bin",
        home: env["HOME"] ?? "/",
        env,
        uid: ids.uid,
        gid: ids.gid,
        trusted: ids.trusted,
      });
      return {
        data,
        clock,
        lasting,
        runtime,
        view,
        template,
        templates: openStoredTemplates({ view, templatesDir: join(data.root, "templates"), uid: ids.uid, gid: ids.gid }),
        watcher: this.#watcher,
        weaken,
        onGone,
        ...(pythonModules === undefined ? {} : { pythonModules }),
        ...(stored === undefined ? {} : { stored }),
        ...(doors === undefined ? {} : { doors }),
      };
    } catch (error) {
      await runtime[Symbol.asyncDispose]();
      throw error;
    }
  }
}

async function openRuntime(name: RuntimeName, options: WorkshopOptions): Promise<Runtime> {
  const settings = { ...runtimeOptions(options), ...(options.lasting === true ? { waitMs: SUCCESSOR_WAIT_MS } : {}) };
  if (name === "native") return await openNativeRuntime(settings);
  const { openBwrapRuntime } = await import("../runtime/bwrap/runtime.ts");
  return await openBwrapRuntime(settings);
}

/** What every runtime is opened with. Throws `runtime_unavailable` where there is no system call filter for this machine. */
export function runtimeOptions({ data, guestFile, weaken, idBase }: WorkshopOptions): NativeOptions {
  const arch = filterArch();
  if (arch === undefined)
    throw new CorralError("runtime_unavailable", `there is no system call filter for ${process.arch}; Corral runs on x86-64 and arm64`);
  return {
    guestBinary: guestFile,
    runDir: data.run,
    mode: "auto",
    allowWeaken: weaken.length > 0,
    ...(idBase === undefined ? {} : { idBase }),
    seccomp: seccompProgram({ arch, pid1Clone3: true }),
  };
}
