// Makes the bed that rows lie on: Corral over a data directory of its own, a codebase with the attempt programs in it, flags that no attempt may
// change, and the way outside. Invariant: nothing of it is in a data directory, a codebase or a range of ids that anybody else uses.

import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import type { RuntimeName } from "../api/sandbox.ts";
import { openNativeRuntime } from "../runtime/native/runtime.ts";
import { filterArch, seccompProgram } from "../runtime/seccomp/filter.ts";
import { runUnconfined } from "../runtime/unconfined.ts";
import { type HostCorral, openLocalCorral } from "../sandbox/corral.ts";
import { EgressLab } from "./egress-lab.ts";
import { type Bed, NET_SECRET } from "./row.ts";

const PROGRAMS = ["calls", "doors", "resource"] as const;
/** First id of the sandboxes of attempts as root: nobody else's, neither those of other sandboxes nor of what fetches for them. */
const ID_BASE = 1_879_048_192 + 2 * 65_536;
const CORE_PATTERN = "/proc/sys/kernel/core_pattern";

export interface BedPlace {
  /** guest/build: the guest and the compiled attempts. */
  readonly buildDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
}

export interface OpenBed extends AsyncDisposable {
  readonly corral: HostCorral;
  /** A bed for one row: its scratch directory is its own. */
  forRow(id: string, runtime: RuntimeName): Bed;
  /** One word for all that must be the same outside before and after an attempt. */
  flags(): string;
}

/** Throws `guest_missing` where the attempts were not built. */
export async function openBed(place: BedPlace): Promise<OpenBed> {
  const built = join(place.buildDir, "attempts");
  const missing = PROGRAMS.find((name) => !existsSync(join(built, name)));
  if (missing !== undefined)
    throw new CorralError("guest_missing", `${join(built, missing)} is not there; build it with: sh guest/make.sh`);
  const top = mkdtempSync(join(tmpdir(), "corral-attack-"));
  // Sandboxes' ids walk down to their layers.
  chmodSync(top, 0o755);
  const codebase = makeCodebase(join(top, "codebase"), built);
  const flag = join(top, "flag");
  writeFileSync(flag, randomBytes(16).toString("hex"), { mode: 0o600 });
  const net = new EgressLab();
  const doors = net.doors({ [NET_SECRET.name]: NET_SECRET.value });
  const corrals = new Map<string, Promise<HostCorral>>();
  const corralFor = (weaken: readonly number[]): Promise<HostCorral> => {
    const key = weaken.join(",");
    const { env, uid } = place;
    const dataDir = join(top, `data-${key || "whole"}`);
    const guestFile = join(place.buildDir, "corral-guest");
    const open = corrals.get(key) ?? openLocalCorral({ guestFile, env, uid, dataDir, weaken, doors, idBase: ID_BASE });
    corrals.set(key, open);
    return open;
  };
  const dispose = async (): Promise<void> => {
    for (const corral of await Promise.allSettled(corrals.values()))
      if (corral.status === "fulfilled") await corral.value[Symbol.asyncDispose]();
    await net[Symbol.asyncDispose]();
    await remove(top, join(place.buildDir, "corral-guest"));
  };
  const corral = await corralFor([]).catch(async (error: unknown) => {
    await dispose();
    throw error;
  });
  return {
    corral,
    forRow: (id, runtime) =>
      bedOf({ runtime, scratch: scratchOf(top, `${id}-${runtime}`), codebase, programs: built, corral, corralFor, net }),
    flags: () => flagsOf(flag, codebase),
    [Symbol.asyncDispose]: dispose,
  };
}

interface BedFacts {
  readonly runtime: RuntimeName;
  readonly scratch: string;
  readonly codebase: string;
  readonly programs: string;
  readonly corral: HostCorral;
  readonly corralFor: (weaken: readonly number[]) => Promise<HostCorral>;
  readonly net: EgressLab;
}

function bedOf(facts: BedFacts): Bed {
  return {
    runtime: facts.runtime,
    scratch: facts.scratch,
    net: facts.net,
    corral: facts.corral,
    program: (name) => join(facts.programs, name),
    async open(options = {}) {
      const corral = await facts.corralFor(options.weaken ?? []);
      return await corral.create({
        codebaseDir: options.dir ?? facts.codebase,
        policy: options.policy ?? {
          rules: [
            { pattern: "**", permission: "read" },
            { pattern: "/output/**", permission: "write" },
          ],
        },
        runtime: facts.runtime,
        ...(options.id === undefined ? {} : { id: options.id }),
        ...(options.limits === undefined ? {} : { limits: options.limits }),
        ...(options.network === undefined ? {} : { network: options.network }),
      });
    },
    outside: runUnconfined,
  };
}

function makeCodebase(dir: string, programs: string): string {
  mkdirSync(join(dir, ".attempts"), { recursive: true });
  mkdirSync(join(dir, "output"));
  writeFileSync(join(dir, "plain.txt"), "plain\n");
  for (const name of PROGRAMS) copyFileSync(join(programs, name), join(dir, ".attempts", name));
  return dir;
}

function scratchOf(top: string, id: string): string {
  const path = join(top, `row-${id.replace("/", "-")}`);
  mkdirSync(path, { recursive: true });
  return path;
}

/** An ordinary user may not remove what sandboxes' ids own: the guest's tool may. */
async function remove(top: string, guestBinary: string): Promise<void> {
  try {
    rmSync(top, { recursive: true, force: true });
  } catch (error) {
    const arch = filterArch();
    if ((error as NodeJS.ErrnoException).code !== "EACCES" || arch === undefined) throw error;
    await using runtime = await openNativeRuntime({
      guestBinary,
      runDir: top,
      mode: "auto",
      seccomp: seccompProgram({ arch, pid1Clone3: true }),
    });
    for (const name of readdirSync(top).filter((entry) => entry.startsWith("data-")))
      await runtime.tool(["remove", join(top, name, "masks")]).done;
    rmSync(top, { recursive: true, force: true });
  }
}

/** A file beside the data directory, all entries of the codebase, and settings of the node that an escape is fond of. */
function flagsOf(flag: string, codebase: string): string {
  const hash = createHash("sha256");
  const paths = readdirSync(codebase, { recursive: true, encoding: "utf8" }).sort();
  for (const path of [flag, codebase, ...paths.map((name) => join(codebase, name))]) {
    const { mode, uid, gid, size, mtimeMs, ctimeMs, nlink } = lstatSync(path);
    hash.update(JSON.stringify([path, mode, uid, gid, size, mtimeMs, ctimeMs, nlink]));
  }
  hash.update(readFileSync(flag)).update(readFileSync(CORE_PATTERN)).update(hostname());
  return hash.digest("hex");
}
