// Files of a server's sandbox. Invariant: content that was cut is an error, never a short file; what is sent is not held whole.

import { CorralError, errorCode } from "../api/errors.ts";
import type { FileCalls, FileContent, FileEntry, FileEvent, FilePath, RangeOptions, UnpackResult, WriteOptions } from "../api/files.ts";
import type { CallOptions, ListOf } from "../api/calls.ts";
import type { WireError } from "../api/server.ts";
import { type Call, type Http, streamError } from "./http.ts";
import { bytes, chunks, joined, messages } from "./streams.ts";

type Pairs = Readonly<Record<string, string | number | boolean | undefined>>;

export function remoteFiles(http: Http, sandbox: string): FileCalls {
  const at = (noun: string, path: FilePath, pairs: Pairs = {}): string => `${sandbox}/files${noun}?${query(path, pairs)}`;
  const open: FileCalls["open"] = async (path, { offset, length, signal }: RangeOptions = {}) =>
    contentOf(await http.ask(at("/content", path, { offset, length }), { signal }));
  const read: FileCalls["read"] = async (path, options) => {
    const parts: Uint8Array[] = [];
    for await (const part of await open(path, options)) parts.push(part);
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : joined(parts);
  };
  const stat: FileCalls["stat"] = (path, { follow, signal } = {}) => http.get<FileEntry>(at("/stat", path, { follow }), { signal });
  const post = async (noun: string, body: unknown, signal: AbortSignal | undefined): Promise<unknown> =>
    await http.get(`${sandbox}/files${noun}`, { method: "POST", body, signal });
  return {
    open,
    read,
    stat,
    readText: async (path, options) => new TextDecoder().decode(await read(path, options)),
    write: async (path, data, { signal, mode, ...rest }: WriteOptions = {}) => {
      const target = at("/content", path, { ...rest, mode: mode?.toString(8) });
      return await http.get<FileEntry>(target, { method: "PUT", raw: contentFor(data), signal });
    },
    list: (path, { signal, ...page } = {}) => http.get<ListOf<FileEntry>>(at("", path, page), { signal }),
    exists: (path, options) =>
      stat(path, options).then(
        () => true,
        (error: unknown) => {
          if (["file_not_found", "not_a_directory"].includes(errorCode(error) ?? "")) return false;
          throw error;
        },
      ),
    move: async (from, to, { signal, ...rest } = {}) => void (await post("/move", { from, to, ...rest }, signal)),
    remove: async (path, { recursive, signal } = {}) =>
      void (await http.get(at("/content", path, { recursive }), { method: "DELETE", signal })),
    mkdir: async (path, { signal, ...rest } = {}) => (await post("/mkdir", { path, ...rest }, signal)) as FileEntry,
    update: (path, change, { signal }: CallOptions = {}) => http.get<FileEntry>(at("", path), { method: "PATCH", body: change, signal }),
    link: async (path, target, { signal } = {}) => void (await post("/link", { path, target }, signal)),
    watch: (path, { recursive, signal } = {}) => watch(() => http.ask(at("/watch", path, { recursive }), { signal })),
    download: (path, { signal } = {}) => bytes(() => http.ask(at("/archive", path), { signal })),
    upload: (path, tar, { signal } = {}) => http.get<UnpackResult>(at("/archive", path), { method: "PUT", raw: contentFor(tar), signal }),
  };
}

function query(path: FilePath, pairs: Pairs): string {
  const all = new URLSearchParams(typeof path === "string" ? { path: wellFormed(path) } : { base64: path.base64 });
  for (const [name, value] of Object.entries(pairs)) if (value !== undefined) all.set(name, String(value));
  return all.toString();
}

/** Half of a surrogate pair is no UTF-8, and would become another name on its way. */
function wellFormed(path: string): string {
  try {
    encodeURIComponent(path);
  } catch (cause) {
    throw new CorralError("request_invalid", "path: it is no text in UTF-8; send its bytes as base64", { cause });
  }
  return path;
}

function contentOf(response: Response): FileContent {
  const size = response.headers.get("corral-file-size");
  return { size: size === null ? null : Number(size), [Symbol.asyncIterator]: () => chunks(response) };
}

function contentFor(data: string | Uint8Array | AsyncIterable<Uint8Array>): NonNullable<Call["raw"]> {
  if (typeof data === "string") return new TextEncoder().encode(data);
  if (data instanceof Uint8Array) return data;
  const source = data[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await source.next();
      if (next.done === true) controller.close();
      else controller.enqueue(next.value);
    },
    async cancel() {
      await source.return?.();
    },
  });
}

async function* watch(ask: () => Promise<Response>): AsyncGenerator<FileEvent, void, void> {
  for await (const { event, data } of messages(bytes(ask))) {
    if (event === "error") throw streamError(JSON.parse(data) as WireError);
    if (data === "") continue; // a sign of life
    yield JSON.parse(data) as FileEvent;
    if (event === "gone") return;
  }
  throw new CorralError("stream_cut", "the connection ended and the watch with it; begin another, and look at what may have changed");
}
