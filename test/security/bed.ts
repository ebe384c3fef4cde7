// Makes the bed that rows lie on: Corral over a data directory of its own, a codebase with the attempt programs in it, and the way outside.
// Invariant: what runs outside runs in throwaway namespaces, so that an attempt which succeeds leaves nothing on the node.

import { execFileSync, spawn } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Corral } from "../../src/api/corral.ts";
import type { RuntimeName } from "../../src/api/sandbox.ts";
import { openLocalCorral } from "../../src/sandbox/corral.ts";
import type { Bed } from "./row.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const ATTEMPTS = join(ROOT, "test", "fixtures", "attempts");
const PROGRAMS = ["calls", "doors", "resource"] as const;
/** uid of attempts that run outside as nobody in particular. */
const OUTSIDE_UID = 65534;

export interface OpenBed extends AsyncDisposable {
  /** A bed for one row: its scratch directory is its own. */
  forRow(id: string): Bed;
}

export async function openBed(runtime: RuntimeName): Promise<OpenBed> {
  const top = mkdtempSync(join(tmpdir(), "corral-attempts-"));
  chmodSync(top, 0o755);
  const programs = compile(join(top, "programs"));
  const codebase = makeCodebase(join(top, "codebase"), programs);
  const corrals = new Map<string, Promise<Corral>>();
  const corralFor = (weaken: readonly number[]): Promise<Corral> => {
    const key = weaken.join(",");
    const open =
      corrals.get(key) ??
      openLocalCorral({
        guestFile: join(ROOT, "guest", "build", "corral-guest"),
        env: process.env,
        uid: process.getuid?.() ?? 0,
        dataDir: join(top, `data-${key || "whole"}`),
        weaken,
      });
    corrals.set(key, open);
    return open;
  };
  return {
    forRow: (id) => bedOf({ runtime, scratch: scratchOf(top, id), codebase, programs, corralFor }),
    async [Symbol.asyncDispose]() {
      for (const corral of corrals.values()) await (await corral)[Symbol.asyncDispose]();
      rmSync(top, { recursive: true, force: true });
    },
  };
}

interface BedFacts {
  readonly runtime: RuntimeName;
  readonly scratch: string;
  readonly codebase: string;
  readonly programs: string;
  readonly corralFor: (weaken: readonly number[]) => Promise<Corral>;
}

function bedOf(facts: BedFacts): Bed {
  return {
    runtime: facts.runtime,
    scratch: facts.scratch,
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
        ...(options.limits === undefined ? {} : { limits: options.limits }),
      });
    },
    outside: (argv, options = {}) => outside(argv, options.asUser ?? false),
  };
}

/** All programs of test/fixtures/attempts, static, so that they run in any root. */
function compile(dir: string): string {
  mkdirSync(dir);
  for (const name of PROGRAMS)
    execFileSync("cc", [
      "-std=gnu11",
      "-O1",
      "-static",
      "-pthread",
      "-Wall",
      "-Wextra",
      "-Werror",
      "-o",
      join(dir, name),
      join(ATTEMPTS, `${name}.c`),
    ]);
  return dir;
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

/** Root in new mount, pid, network, ipc and uts namespaces; with `asUser` an unprivileged uid there. */
function outside(argv: readonly string[], asUser: boolean): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const drop = asUser ? ["setpriv", `--reuid=${OUTSIDE_UID}`, `--regid=${OUTSIDE_UID}`, "--clear-groups"] : [];
  const child = spawn(
    "unshare",
    ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", ...drop, ...argv],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) =>
      resolve({ exitCode: code ?? -1, stdout: Buffer.concat(out).toString("latin1"), stderr: Buffer.concat(err).toString("latin1") }),
    );
  });
}
