// A tar stream (ustar, with pax records where a name, a target or a size does not fit) of what a delta added or changed, with the
// content that the merged view shows. Deletions and special files are not in it. Links stand as they are: whoever unpacks it unpacks
// what a sandbox made. Invariant: every entry has exactly the bytes that its header says, or the stream fails.

import { CorralError } from "../api/errors.ts";
import { printable } from "../policy/bytes.ts";
import type { DeltaChange, DeltaChanges, DeltaInput } from "./changes.ts";
import { Contents } from "./stage.ts";

const BLOCK = 512;
const MAX_NAME = 100;
const MAX_PREFIX = 155;
/** Eleven octal digits. */
const MAX_OCTAL_SIZE = 0o77777777777;

export async function* exportDelta(input: DeltaInput, { changes }: Pick<DeltaChanges, "changes">): AsyncGenerator<Uint8Array> {
  const contents = new Contents(input.tool, input.upper, input.base);
  let done = false;
  try {
    for (const change of changes) if (change.after !== undefined && change.type !== "other") yield* entry(change, contents);
    yield Buffer.alloc(2 * BLOCK);
    await contents.close();
    done = true;
  } finally {
    if (!done) await contents.abandon();
  }
}

async function* entry(change: DeltaChange, contents: Contents): AsyncGenerator<Buffer> {
  const { after, path, type } = change;
  const size = type === "file" ? (after?.size ?? 0) : 0;
  yield headerOf(change, size);
  if (after?.source === undefined || size === 0 || type !== "file") return;
  let bytes = 0;
  for await (const chunk of contents.read(after.source, size)) {
    bytes += chunk.length;
    yield chunk;
  }
  if (bytes !== size)
    throw new CorralError(
      "sandbox_state",
      `${printable(path)} changed while it was exported; stop what writes to the sandbox and export again`,
    );
  if (size % BLOCK !== 0) yield Buffer.alloc(BLOCK - (size % BLOCK));
}

const TYPE_FLAGS = { file: "0", link: "2", dir: "5", other: "" } as const;

function headerOf({ path, type, mode, after }: DeltaChange, size: number): Buffer {
  const name = `${path.slice(1)}${type === "dir" ? "/" : ""}`;
  const target = type === "link" ? (after?.target ?? "") : "";
  const split = splitName(name);
  const pax: [string, string][] = [];
  if (split === undefined) pax.push(["path", name]);
  if (target.length > MAX_NAME) pax.push(["linkpath", target]);
  if (size > MAX_OCTAL_SIZE) pax.push(["size", String(size)]);
  const [prefix, rest] = split ?? ["", name.slice(0, MAX_NAME)];
  const fields = { name: rest, prefix, mode: type === "link" ? 0o777 : mode, mtimeSeconds: after?.mtimeSeconds ?? 0 };
  const own = header({ ...fields, size: Math.min(size, MAX_OCTAL_SIZE), flag: TYPE_FLAGS[type], target: target.slice(0, MAX_NAME) });
  return pax.length === 0 ? own : Buffer.concat([paxHeader(pax, fields.mtimeSeconds), own]);
}

/** Splits at a slash so that both halves fit; `undefined` when no slash does it. */
function splitName(name: string): readonly [string, string] | undefined {
  if (name.length <= MAX_NAME) return ["", name];
  for (let at = name.indexOf("/"); at !== -1 && at <= MAX_PREFIX; at = name.indexOf("/", at + 1)) {
    const rest = name.length - at - 1;
    if (rest > 0 && rest <= MAX_NAME) return [name.slice(0, at), name.slice(at + 1)];
  }
  return undefined;
}

function paxHeader(values: readonly (readonly [string, string])[], mtimeSeconds: number): Buffer {
  // Without this record values are UTF-8; ours are bytes.
  const records = Buffer.concat([["hdrcharset", "BINARY"] as const, ...values].map(([key, value]) => paxRecord(key, value)));
  const padding = Buffer.alloc((BLOCK - (records.length % BLOCK)) % BLOCK);
  return Buffer.concat([
    header({ name: "PaxHeader", prefix: "", mode: 0o644, mtimeSeconds, size: records.length, flag: "x", target: "" }),
    records,
    padding,
  ]);
}

/** `LENGTH key=value\n`, where the length counts itself. */
function paxRecord(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.from(`${length}${rest}`, "latin1");
}

interface Fields {
  readonly name: string;
  readonly prefix: string;
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly size: number;
  readonly flag: string;
  readonly target: string;
}

function header({ name, prefix, mode, mtimeSeconds, size, flag, target }: Fields): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, digits: number): number => block.write(value.toString(8).padStart(digits, "0"), at, "latin1");
  block.write(name, 0, MAX_NAME, "latin1");
  octal(mode & 0o777, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(size, 124, 11);
  octal(Math.max(0, Math.min(mtimeSeconds, MAX_OCTAL_SIZE)), 136, 11);
  block.fill(" ", 148, 156);
  block.write(flag, 156, "latin1");
  block.write(target, 157, MAX_NAME, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  block.write(prefix, 345, MAX_PREFIX, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}
