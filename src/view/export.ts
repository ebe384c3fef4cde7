// A tar stream of what a delta added or changed, with the content that the merged view shows. Deletions and special files are not in
// it. Links stand as they are: whoever unpacks it unpacks what a sandbox made.
// Invariant: every entry has exactly the bytes that its header says, or the stream fails.

import { CorralError } from "../api/errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../base/tar-writer.ts";
import { printable } from "../policy/bytes.ts";
import type { DeltaChange, DeltaChanges, DeltaInput } from "./changes.ts";
import { Contents } from "./stage.ts";

export async function* exportDelta(
  input: DeltaInput,
  { changes, placeOf }: Pick<DeltaChanges, "changes" | "placeOf">,
): AsyncGenerator<Uint8Array> {
  const contents = new Contents(input, placeOf);
  let done = false;
  try {
    for (const change of changes) if (change.after !== undefined && change.type !== "other") yield* entry(change, change.type, contents);
    yield tarEnd();
    await contents.close();
    done = true;
  } finally {
    if (!done) await contents.abandon();
  }
}

async function* entry(change: DeltaChange, type: "file" | "dir" | "link", contents: Contents): AsyncGenerator<Buffer> {
  const { after, path, mode } = change;
  const size = type === "file" ? (after?.size ?? 0) : 0;
  const target = type === "link" ? (after?.target ?? "") : "";
  yield tarHeader({ path: path.slice(1), type, mode, mtimeSeconds: after?.mtimeSeconds ?? 0, size, target });
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
  yield tarPadding(size);
}
