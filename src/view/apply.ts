// Hands a plan to `stage apply`, and reads what came of it; `stage recover` for one that was cut off (guest/PROTOCOL.md, Tools).
// It decides nothing: which operations are in the plan was judged before.
// Invariant: an answer without its end record is an error, never "applied" and never "nothing".

import { CorralError } from "../api/errors.ts";
import {
  ByteReader,
  broken,
  decodeSignature,
  encodeSignature,
  inChunks,
  outputOf,
  SIGNATURE_BYTES,
  toolPath,
  type Signature,
  type Source,
} from "./stage.ts";
import type { RunTool } from "./view.ts";

/** `D` deletes, `R` removes a directory, `M` makes one, `F` puts a file, `L` a link, `C` changes a mode. */
export type OperationKind = "D" | "R" | "M" | "F" | "L" | "C";

export interface Operation {
  readonly kind: OperationKind;
  /** latin1, begins with `/`. */
  readonly path: string;
  /** What the codebase must hold there; absent: nothing. */
  readonly before?: Signature;
  readonly mode: number;
  readonly source?: Source;
  readonly signature?: Signature;
  /** latin1 */
  readonly target?: string;
}

export interface ApplyRequest {
  readonly tool: RunTool;
  readonly base: string;
  readonly upper: string;
  /** Name of the staging directory in `base`. */
  readonly stage: string;
  /** Inode of the codebase directory at the start. */
  readonly rootIno: number;
  readonly operations: readonly Operation[];
  /** For tests of crashes alone: extra arguments of the tool. */
  readonly failpoint?: readonly string[];
}

export interface ApplyOutcome {
  /** `stuck`: taken back but for `stuckPaths`, whose content lies in the staging directory. `busy`: another process is at work on it. */
  readonly outcome: "applied" | "nothing" | "stuck" | "busy";
  readonly errno: number;
  /** Index of the operation that failed. */
  readonly operation?: number;
  readonly what: string;
  /** Changes of the disk that were begun; for tests. */
  readonly steps: number;
  /** What stands at the paths of the plan now. */
  readonly signatures: ReadonlyMap<string, Signature | undefined>;
  readonly stuckPaths: readonly string[];
}

const BODY_BYTES = 100;
const SOURCES = { upper: 1, base: 2 } as const;
const OUTCOMES: Readonly<Record<string, ApplyOutcome["outcome"]>> = { A: "applied", N: "nothing", X: "stuck", B: "busy" };
const NO_OPERATION = 0xffff_ffff;

export async function apply(request: ApplyRequest): Promise<ApplyOutcome> {
  const { tool, base, stage, upper, failpoint = [] } = request;
  const run = tool(["stage", "apply", base, stage, upper, ...failpoint], inChunks(planBytes(request)));
  return await readOutcome(run);
}

/** Brings a commit that was cut off to its end. With `clean` the staging directory is removed: only after the outcome was written down. */
export async function recover(
  tool: RunTool,
  base: string,
  stage: string,
  options: { readonly clean: boolean; readonly failpoint?: readonly string[] },
): Promise<ApplyOutcome> {
  return await readOutcome(tool(["stage", "recover", base, stage, ...(options.clean ? ["--clean"] : []), ...(options.failpoint ?? [])]));
}

function* planBytes({ operations, rootIno }: ApplyRequest): Generator<Buffer> {
  const head = Buffer.alloc(24);
  head.write("CRL1", "latin1");
  head.writeUInt32LE(operations.length, 4);
  head.writeBigUInt64LE(BigInt(rootIno), 8);
  head.writeBigUInt64LE(BigInt(operations.reduce((sum, operation) => sum + sizeOf(operation), 0)), 16);
  yield head;
  for (const operation of operations) yield record(operation);
}

function sizeOf({ path, source, target = "" }: Operation): number {
  return 4 + BODY_BYTES + toolPath(path).length + (source === undefined ? 0 : toolPath(source.path).length) + target.length + 3;
}

function record(operation: Operation): Buffer {
  const { kind, path, before, mode, source, signature, target = "" } = operation;
  const bytes = Buffer.alloc(sizeOf(operation));
  const [at, from, link] = [toolPath(path), source === undefined ? Buffer.alloc(0) : toolPath(source.path), Buffer.from(target, "latin1")];
  bytes.writeUInt32LE(bytes.length - 4, 0);
  bytes.write(kind, 4, "latin1");
  bytes[5] = source === undefined ? 0 : SOURCES[source.root];
  bytes.writeUInt32LE(mode & 0o777, 8);
  encodeSignature(before, bytes, 12);
  encodeSignature(signature, bytes, 12 + SIGNATURE_BYTES);
  bytes.writeUInt32LE(at.length, 92);
  bytes.writeUInt32LE(from.length, 96);
  bytes.writeUInt32LE(link.length, 100);
  let end = 4 + BODY_BYTES;
  for (const part of [at, from, link]) {
    part.copy(bytes, end);
    end += part.length + 1;
  }
  return bytes;
}

async function readOutcome(run: ReturnType<RunTool>): Promise<ApplyOutcome> {
  const reader = new ByteReader(outputOf(run));
  const signatures = new Map<string, Signature | undefined>();
  const stuckPaths: string[] = [];
  for (;;) {
    const tag = (await reader.take(1))?.toString("latin1");
    if (tag === undefined) {
      throw new CorralError("commit_failed", "the commit ended without saying how; the next start finishes it or takes it back");
    }
    if (tag === "E") return await readEnd(reader, run, { signatures, stuckPaths });
    const head = await reader.need(8);
    const sig = tag === "S" ? decodeSignature(await reader.need(SIGNATURE_BYTES), 0) : undefined;
    const path = `/${(await reader.need(head.readUInt32LE(4))).toString("latin1")}`;
    if (tag === "S") signatures.set(path, sig);
    else if (tag === "X") stuckPaths.push(path);
    else throw broken(`a record ${JSON.stringify(tag)}`);
  }
}

async function readEnd(
  reader: ByteReader,
  run: ReturnType<RunTool>,
  rest: Pick<ApplyOutcome, "signatures" | "stuckPaths">,
): Promise<ApplyOutcome> {
  const end = await reader.need(17);
  const outcome = OUTCOMES[end.toString("latin1", 0, 1)];
  if (outcome === undefined) throw broken("an unknown outcome");
  const operation = end.readUInt32LE(5);
  const what = (await reader.need(end.readUInt32LE(13))).toString("utf8");
  await run.done;
  return {
    ...rest,
    outcome,
    errno: end.readUInt32LE(1),
    what,
    steps: end.readUInt32LE(9),
    ...(operation === NO_OPERATION ? {} : { operation }),
  };
}
