// `SB:path` as a person writes a place in a sandbox, beside places of this machine. Names are bytes on both sides.
// Invariant: what has no `sb…:` before it is of this machine; a relative path in a sandbox begins at /workspace.

import { posix } from "node:path";
import { CorralError } from "../../api/errors.ts";
import type { FilePath } from "../../api/files.ts";

const HOME = "/workspace";

export interface Place {
  /** Id of the sandbox, or its beginning; absent: this machine. */
  readonly sandbox?: string;
  readonly path: string;
}

export function placeOf(word: string): Place {
  const match = /^(sb[a-z0-9]{0,20}):(.*)$/s.exec(word);
  if (match === null) return { path: word };
  const [, sandbox = "", path = ""] = match;
  // `dir/.` is what is in it, as `cp` means it.
  return { sandbox, path: `${posix.resolve(HOME, path)}${/(?:^|\/)\.$/.test(path) ? "/." : ""}` };
}

/** Of a place that can only be in a sandbox. */
export function inSandbox(word: string): Place & { readonly sandbox: string } {
  const { sandbox, path } = placeOf(word);
  if (sandbox === undefined)
    throw new CorralError(
      "request_invalid",
      `${JSON.stringify(word)} names no place in a sandbox; write SB:path, as in sb12ab:/workspace/src`,
    );
  return { sandbox, path };
}

/** Bytes of a path as the files of a sandbox take it. */
export function filePath(bytes: Buffer): FilePath {
  const text = bytes.toString("utf8");
  return Buffer.from(text).equals(bytes) ? text : { base64: bytes.toString("base64") };
}

/** `dir` and one name in it. */
export function below(dir: Buffer, name: Buffer): Buffer {
  return Buffer.concat([dir, Buffer.from(dir.at(-1) === 0x2f ? "" : "/"), name]);
}
