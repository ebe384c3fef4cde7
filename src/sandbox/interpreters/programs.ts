// How the interpreter of a language is started: its command, the driver that it is sent, what is said when it is missing.
// Not what a driver does: python-driver.py, node-driver.mjs. Invariant: a driver comes by the control channel, never from a file of the sandbox.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../../api/errors.ts";
import type { GuestExit, GuestProcess } from "../../runtime/runtime.ts";
import { cwdError, notFound, startWords } from "../exit-words.ts";
import type { Program } from "./interpreter.ts";

/** Reads the driver from descriptor 3: 4 bytes length, source. */
const PYTHON_BOOT = [
  "import os",
  "def take(n):",
  " b=b''",
  " while len(b)<n:",
  "  c=os.read(3,n-len(b))",
  "  if not c: os._exit(0)",
  "  b+=c",
  " return b",
  "exec(compile(take(int.from_bytes(take(4),'little')),'<corral>','exec'),{'__name__':'corral'})",
].join("\n");

export interface PythonStart {
  /** Imported before the first call, where they are there. */
  readonly modules: readonly string[];
  /** Others are forked from it. */
  readonly forks: boolean;
  /** Why it is not forked itself. */
  readonly reason?: string;
}

export function pythonProgram({ modules, forks, reason }: PythonStart): Program {
  return {
    name: "python3",
    start: { kind: "cold", ...(reason === undefined ? {} : { reason }) },
    exec: { argv: ["python3", "-I", "-c", PYTHON_BOOT], forks },
    source: driver("python-driver.py"),
    settings: { modules, forks, env: {}, cwd: null },
    startError: startErrorOf("python3"),
  };
}

const NODE_BOOT = [
  "const fs=require('node:fs');",
  "const take=(n)=>{const b=Buffer.alloc(n);for(let at=0;at<n;){const got=fs.readSync(3,b,at,n-at);if(got===0)process.exit(0);at+=got;}return b;};",
  "new Function('require',take(take(4).readUInt32LE(0)).toString())(require);",
].join("");

export function nodeProgram(): Program {
  return {
    name: "node",
    start: { kind: "cold" },
    exec: { argv: ["node", "--input-type=commonjs", "-e", NODE_BOOT] },
    source: driver("node-driver.cjs"),
    settings: {},
    startError: startErrorOf("node"),
  };
}

/** A child of one that forks. */
export function forkedProgram(
  forkOf: GuestProcess,
  place: { readonly env: Readonly<Record<string, string>>; readonly cwd: string },
): Program {
  return {
    name: "python3",
    start: { kind: "fork" },
    exec: { argv: ["python3"], forkOf },
    settings: { modules: [], forks: false, ...place },
    startError: ({ startErrno }) =>
      new CorralError("context_unavailable", `it could not be forked: ${startWords(startErrno)}`, { details: { startErrno } }),
  };
}

function driver(file: string): Uint8Array {
  return readFileSync(join(import.meta.dirname, file));
}

function startErrorOf(name: string): Program["startError"] {
  return (exit: GuestExit, cwd: string) => {
    if (exit.cwdFailed) return cwdError(cwd, exit.startErrno);
    if (notFound(exit.startErrno))
      return new CorralError("context_unavailable", `the sandbox has no ${name}, which the context needs; take a template that has it`);
    return new CorralError("context_unavailable", `${name} could not be started: ${startWords(exit.startErrno)}`);
  };
}
