// How the interpreter of a language is started: its command, the driver that it is sent, what is said when it is missing.
// Not what a driver does: python-driver.py, node-driver.mjs. Invariant: a driver comes by the control channel, never from a file of the sandbox.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../../api/errors.ts";
import type { GuestExit } from "../../runtime/runtime.ts";
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

export function pythonProgram(modules: readonly string[]): Program {
  return {
    name: "python3",
    start: { kind: "cold" },
    argv: ["python3", "-I", "-c", PYTHON_BOOT],
    source: driver("python-driver.py"),
    settings: { modules },
    startError: startErrorOf("python3"),
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
