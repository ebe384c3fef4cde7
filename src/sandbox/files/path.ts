// Paths of callers as bytes, and bytes of the sandbox as paths. Nothing is resolved here: the kernel does that inside.
// Invariant: what goes in is absolute, bounded and holds no NUL; what comes out can be asked with again.

import type { FilePath } from "../../api/files.ts";
import { CorralError } from "../../api/errors.ts";
import { MAX_PATH_BYTES } from "../../api/limits.ts";

const SLASH = 0x2f;

export interface AskedPath {
  readonly bytes: Buffer;
  /** For messages. */
  readonly shown: string;
}

export function askedPath(path: FilePath, field = "path"): AskedPath {
  const bytes = pathBytes(path, field);
  const shown = JSON.stringify(bytes.toString("utf8"));
  if (bytes[0] !== SLASH) throw new CorralError("request_invalid", `${field}: ${shown} is not absolute; begin it with /`);
  return { bytes, shown };
}

/** Of a link's target, which may be relative. */
export function pathBytes(path: FilePath, field: string): Buffer {
  const bytes = typeof path === "string" ? Buffer.from(path, "utf8") : Buffer.from(path.base64, "base64");
  if (bytes.includes(0)) throw new CorralError("request_invalid", `${field} holds a NUL byte`);
  if (bytes.length > MAX_PATH_BYTES)
    throw new CorralError("request_invalid", `${field}: ${bytes.length} bytes are more than the ${MAX_PATH_BYTES} of the longest path`);
  return bytes;
}

export function joined(dir: Buffer, name: Buffer): Buffer {
  if (name.length === 0 || dir.length === 0) return dir.length === 0 ? name : dir;
  return Buffer.concat([dir, ...(dir.at(-1) === SLASH ? [] : [Buffer.from("/")]), name]);
}

/** `path`, and its bytes where they are not UTF-8. */
export function toldPath(bytes: Buffer): { readonly path: string; readonly base64?: string } {
  const path = bytes.toString("utf8");
  return Buffer.from(path, "utf8").equals(bytes) ? { path } : { path, base64: bytes.toString("base64") };
}

export function lastName(path: string): string {
  return path.replace(/\/+$/, "").split("/").at(-1) ?? "";
}
