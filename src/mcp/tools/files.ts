// `read_file`, `write_file`, `edit_file`, `list_files`: files of the sandbox, resolved inside it, as its user and under its policy.
// Invariant: an edit replaces what the model has seen, or nothing.

import { z } from "zod";
import { CorralError } from "../../api/errors.ts";
import type { FileEntry } from "../../api/files.ts";
import { MAX_MCP_BODY_BYTES, MAX_PATH_BYTES, MCP_IMAGE_BYTES, MCP_TEXT_BYTES } from "../../api/limits.ts";
import { decode } from "../text.ts";
import { insidePath, type Tool, type ToolAnswer } from "../tool.ts";

const path = z.string().min(1).max(MAX_PATH_BYTES).describe("From the codebase's root on, or absolute inside the sandbox");
const size = z.number().describe("Bytes of the whole file");

/** By the bytes that a file begins with: a name says nothing of what is in it. */
const IMAGES: readonly (readonly [mimeType: string, magic: RegExp])[] = [
  ["image/png", /^\x89PNG\r\n\x1a\n/],
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/gif", /^GIF8[79]a/],
  ["image/webp", /^RIFF....WEBP/s],
];

const readInput = z.strictObject({
  path,
  offset: z.number().int().nonnegative().default(0).describe("Bytes to leave out at the beginning"),
  length: z.number().int().positive().max(MCP_TEXT_BYTES).default(MCP_TEXT_BYTES).describe("Bytes to read"),
});
const readOutput = z.strictObject({
  path: z.string(),
  size,
  kind: z.enum(["text", "base64", "image"]),
  text: z.string().optional(),
  base64: z.string().optional().describe("Of bytes that are no text"),
  truncated: z.boolean().describe("The file goes on behind what is shown"),
});

export const readFile: Tool<typeof readInput, typeof readOutput> = {
  name: "read_file",
  title: "Read a file",
  description: "Reads a file of the sandbox: text as text, an image as an image, other bytes as base64.",
  input: readInput,
  output: readOutput,
  hints: { readOnly: true },
  run: async (request, { sandbox, signal }) => {
    const at = insidePath(request.path);
    const whole = await sandbox.files.stat(at, { signal });
    // Files of /proc say that they are empty.
    const bytes = await sandbox.files.read(at, { offset: request.offset, length: request.length, signal });
    const mimeType = request.offset === 0 ? imageType(bytes) : undefined;
    if (mimeType !== undefined) return await imageOf({ ...whole, mimeType }, (length) => sandbox.files.read(at, { length, signal }));
    const truncated = request.offset + bytes.length < whole.size;
    const seen = { path: whole.path, size: Math.max(whole.size, bytes.length), truncated };
    if (bytes.includes(0)) return { data: { ...seen, kind: "base64", base64: Buffer.from(bytes).toString("base64") } };
    return { data: { ...seen, kind: "text", text: decode(bytes) } };
  },
};

function imageType(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 16)).toString("latin1");
  return IMAGES.find(([, magic]) => magic.test(head))?.[0];
}

async function imageOf(
  file: FileEntry & { readonly mimeType: string },
  read: (length: number) => Promise<Uint8Array>,
): Promise<ToolAnswer<z.input<typeof readOutput>>> {
  if (file.size > MCP_IMAGE_BYTES)
    throw new CorralError("request_too_large", `the image has ${file.size} bytes and ${MCP_IMAGE_BYTES} can be shown; make a smaller one`);
  // SAFETY: the file may have grown since it was asked about.
  const data = Buffer.from(await read(MCP_IMAGE_BYTES)).toString("base64");
  return {
    data: { path: file.path, size: file.size, kind: "image", truncated: false },
    blocks: [{ type: "image", data, mimeType: file.mimeType }],
  };
}

const writeInput = z.strictObject({
  path,
  content: z.string().max(MAX_MCP_BODY_BYTES),
  encoding: z.enum(["utf-8", "base64"]).default("utf-8"),
});
const writeOutput = z.strictObject({ path: z.string(), size });

export const writeFile: Tool<typeof writeInput, typeof writeOutput> = {
  name: "write_file",
  title: "Write a file",
  description: "Writes a file of the sandbox, whole or not at all, with the directories on its way. What was there is replaced.",
  input: writeInput,
  output: writeOutput,
  hints: { readOnly: false, destructive: true, idempotent: true },
  run: async ({ path: wanted, content, encoding }, { sandbox, signal }) => {
    const written = await sandbox.files.write(insidePath(wanted), Buffer.from(content, encoding), { parents: true, signal });
    return { data: { path: written.path, size: written.size } };
  },
};

const editInput = z.strictObject({
  path,
  old_text: z.string().min(1).max(MAX_MCP_BODY_BYTES).describe("Exactly as it stands in the file"),
  new_text: z.string().max(MAX_MCP_BODY_BYTES),
  replace_all: z.boolean().default(false).describe("Every place where it stands; else it must stand there once"),
});
const editOutput = z.strictObject({ path: z.string(), size, replaced: z.number().describe("Places") });

export const editFile: Tool<typeof editInput, typeof editOutput> = {
  name: "edit_file",
  title: "Replace text in a file",
  description:
    "Replaces one text in a file of the sandbox by another, exactly. Nothing is changed when it is not there, or more than once.",
  input: editInput,
  output: editOutput,
  hints: { readOnly: false, destructive: true },
  run: async ({ path: wanted, old_text, new_text, replace_all }, { sandbox, signal }) => {
    const at = insidePath(wanted);
    const before = await sandbox.files.read(at, { length: MAX_MCP_BODY_BYTES + 1, signal });
    if (before.length > MAX_MCP_BODY_BYTES)
      throw new CorralError("request_too_large", `a file of over ${MAX_MCP_BODY_BYTES} bytes takes shell_execute to edit`);
    // Bytes, not characters: what is no UTF-8 elsewhere in the file stays what it is.
    const parts = split(Buffer.from(before), Buffer.from(old_text));
    const places = parts.length - 1;
    if (places === 0) throw new CorralError("request_invalid", `old_text does not stand in ${at}; read the file again`);
    if (places > 1 && !replace_all)
      throw new CorralError("request_invalid", `old_text stands in ${at} ${places} times; give more of what is around it, or replace_all`);
    const replacement = Buffer.from(new_text);
    const after = Buffer.concat(parts.flatMap((part, index) => (index === 0 ? [part] : [replacement, part])));
    const written = await sandbox.files.write(at, after, { signal });
    return { data: { path: written.path, size: written.size, replaced: places } };
  },
};

function split(bytes: Buffer, separator: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  let from = 0;
  for (let at = bytes.indexOf(separator); at !== -1; at = bytes.indexOf(separator, from)) {
    parts.push(bytes.subarray(from, at));
    from = at + separator.length;
  }
  return [...parts, bytes.subarray(from)];
}

const listInput = z.strictObject({
  path: path.default("/workspace"),
  cursor: z.string().max(MAX_PATH_BYTES).optional().describe("`next` of the answer before"),
});
const listOutput = z.strictObject({
  entries: z.array(
    z.strictObject({
      name: z.string(),
      type: z.enum(["file", "dir", "link", "other"]),
      size: z.number(),
      modifiedAt: z.string(),
      target: z.string().optional(),
    }),
  ),
  next: z.string().optional().describe("There are more: ask again with this cursor"),
});

export const listFiles: Tool<typeof listInput, typeof listOutput> = {
  name: "list_files",
  title: "List a directory",
  description: "Lists a directory of the sandbox, sorted by name. What the policy hides is not there.",
  input: listInput,
  output: listOutput,
  hints: { readOnly: true },
  run: async ({ path: wanted, cursor }, { sandbox, signal }) => {
    const page = await sandbox.files.list(insidePath(wanted), { signal, ...(cursor === undefined ? {} : { cursor }) });
    const entries = page.items.map(({ name, type, size: bytes, modifiedAt, target }) => ({
      name,
      type,
      size: bytes,
      modifiedAt,
      ...(target === undefined ? {} : { target }),
    }));
    return { data: { entries, ...(page.next === undefined ? {} : { next: page.next }) } };
  },
};
