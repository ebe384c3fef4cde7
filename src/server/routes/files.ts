// /v1/sandboxes/{id}/files: reads a request, asks the service, answers. Content travels as raw bodies, both ways; bytes of a sandbox go out as
// bytes, never as something that a browser would show. Invariant: a body is never held whole here, and one that is cut off changes no file.

import { z } from "zod";
import { CorralError } from "../../api/errors.ts";
import type { FileContent, FileEvent, FilePath, FileUpdate, RangeOptions, WriteOptions } from "../../api/files.ts";
import { EVENT_BEAT_MS, FILE_CHUNK_BYTES, MAX_LISTED_FILES, MAX_UPLOAD_BYTES, WATCH_STALL_MS } from "../../api/limits.ts";
import type { Service } from "../../service/service.ts";
import { readable, sendBytes } from "../bytes.ts";
import { type StreamedEvent, streamEvents } from "../event-stream.ts";
import { incomingBytes, incomingFile, takeRawBodies } from "../raw-body.ts";
import { noNul, sandboxParams as params, type ZodApp } from "../shapes.ts";

const base64 = z.base64().max(8_192);
const bodyPath = z.union([noNul.min(1), z.strictObject({ base64 })]);
/** Of a query: `path`, or `base64` where it is not UTF-8. */
const place = { path: noNul.min(1).optional(), base64: base64.optional() };
const flag = z.enum(["true", "false"]).optional();
const whole = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const mode = z.int().min(0).max(0o7777);
/** As chmod writes it. */
const octal = z
  .string()
  .regex(/^[0-7]{1,4}$/)
  .optional();
const tags = ["files"];

type Place = { readonly path?: string | undefined; readonly base64?: string | undefined };

function pathOf({ path, base64: bytes }: Place): FilePath {
  if ((path === undefined) === (bytes === undefined))
    throw new CorralError("request_invalid", "querystring: send path, or base64 of a path that is not UTF-8");
  return path ?? { base64: bytes ?? "" };
}

export function fileRoutes(app: ZodApp, { files }: Service): void {
  const listQuery = z.strictObject({
    ...place,
    limit: whole.min(1).max(MAX_LISTED_FILES).optional(),
    cursor: z.string().max(400).optional(),
  });
  app.get(
    "/sandboxes/:id/files",
    { schema: { params, querystring: listQuery, tags, summary: "List a directory" } },
    async ({ token, params: { id }, query }) => {
      const { limit, cursor } = query;
      const options = { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { cursor }) };
      return await (await files.of(token, id)).list(pathOf(query), options);
    },
  );
  const statQuery = z.strictObject({ ...place, follow: flag });
  app.get(
    "/sandboxes/:id/files/stat",
    { schema: { params, querystring: statQuery, tags, summary: "Look at a path" } },
    async ({ token, params: { id }, query }) => {
      return await (await files.of(token, id)).stat(pathOf(query), { follow: query.follow !== "false" });
    },
  );
  const updateBody = z.strictObject({
    mode: mode.optional(),
    metadata: z.record(z.string().max(256), noNul.nullable()).optional(),
  });
  const update = "Set mode or metadata; null takes a pair away";
  app.patch(
    "/sandboxes/:id/files",
    { schema: { params, querystring: z.strictObject(place), body: updateBody, tags, summary: update } },
    async (request) => {
      return await (await files.of(request.token, request.params.id)).update(pathOf(request.query), request.body as FileUpdate);
    },
  );
  nameRoutes(app, files);
  watchRoute(app, files);
  readRoutes(app, files);
  void app.register((raw, _options, done) => {
    writeRoutes(raw.withTypeProvider(), files);
    done();
  });
}

function nameRoutes(app: ZodApp, files: Service["files"]): void {
  const moveBody = z.strictObject({ from: bodyPath, to: bodyPath, overwrite: z.boolean().optional(), parents: z.boolean().optional() });
  app.post(
    "/sandboxes/:id/files/move",
    { schema: { params, body: moveBody, tags, summary: "Move a file or directory" } },
    async ({ token, params: { id }, body }) => {
      const { from, to, overwrite = true, parents = false } = body;
      await (await files.of(token, id)).move(from, to, { overwrite, parents });
      return { moved: true };
    },
  );
  const mkdirBody = z.strictObject({ path: bodyPath, mode: mode.optional(), parents: z.boolean().optional() });
  app.post(
    "/sandboxes/:id/files/mkdir",
    { schema: { params, body: mkdirBody, tags, summary: "Make a directory" } },
    async ({ token, params: { id }, body }) => {
      const { path, parents = false, mode: bits } = body;
      return await (await files.of(token, id)).mkdir(path, { parents, ...(bits === undefined ? {} : { mode: bits }) });
    },
  );
  const linkBody = z.strictObject({ path: bodyPath, target: bodyPath });
  app.post(
    "/sandboxes/:id/files/link",
    { schema: { params, body: linkBody, tags, summary: "Make a symbolic link" } },
    async ({ token, params: { id }, body }) => {
      await (await files.of(token, id)).link(body.path, body.target);
      return { made: true };
    },
  );
}

function watchRoute(app: ZodApp, files: Service["files"]): void {
  // Listeners hold no end up.
  const ending = new AbortController();
  app.addHook("preClose", (done) => {
    ending.abort();
    done();
  });
  const query = z.strictObject({ ...place, recursive: flag });
  const summary = "Changes in a directory as server-sent events, from `ready` on; a listener that comes back begins with `overflow`";
  app.get("/sandboxes/:id/files/watch", { schema: { params, querystring: query, tags, summary } }, async (request, reply) => {
    const {
      token,
      params: { id },
      query: asked,
    } = request;
    const calls = await files.of(token, id);
    const options = { recursive: asked.recursive === "true" };
    const missed = request.headers["last-event-id"] !== undefined;
    const follow = (gone: AbortSignal) => {
      const signal = AbortSignal.any([gone, ending.signal]);
      return alive(calls.watch(pathOf(asked), { ...options, signal }), missed);
    };
    await streamEvents(follow, request, reply, WATCH_STALL_MS);
    return reply;
  });
}

/**
 * With a sign of life where nothing happens. `missed`: the listener had another watch before; what happened between the two was seen by
 * nobody, since a watch does not outlive its listener.
 */
async function* alive(source: AsyncIterable<FileEvent>, missed: boolean): AsyncGenerator<StreamedEvent | undefined, void, void> {
  const events = source[Symbol.asyncIterator]();
  try {
    for (let next = events.next(); ; ) {
      const beat = Promise.withResolvers<undefined>();
      const timer = setTimeout(beat.resolve, EVENT_BEAT_MS, undefined);
      const came = await Promise.race([next, beat.promise]).finally(() => clearTimeout(timer));
      if (came?.done === true) return;
      yield came?.value;
      if (came?.value.kind === "ready" && missed) yield { ...came.value, kind: "overflow" };
      if (came !== undefined) next = events.next();
    }
  } finally {
    // Not awaited: where it waits for an event, the signal ends it.
    events.return?.().catch(() => undefined);
  }
}

function readRoutes(app: ZodApp, files: Service["files"]): void {
  const readQuery = z.strictObject({
    ...place,
    offset: z.coerce.number().int().min(-Number.MAX_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER).optional(),
    length: whole.optional(),
  });
  const read = "The bytes of a file; `offset` (from the end when negative) and `length`, or a Range header, for a part";
  app.get(
    "/sandboxes/:id/files/content",
    { config: { answers: [200, 206] }, schema: { params, querystring: readQuery, tags, summary: read } },
    async (request, reply) => {
      const calls = await files.of(request.token, request.params.id);
      const path = pathOf(request.query);
      const { offset, length } = request.query;
      const range = offset === undefined && length === undefined ? rangeOf(request.headers.range) : undefined;
      if (range === undefined) {
        const options = { ...(offset === undefined ? {} : { offset }), ...(length === undefined ? {} : { length }) };
        return await sendContent(reply, await calls.open(path, options), options);
      }
      const content = await calls.open(path, range);
      if (content.size === null) return await sendContent(reply, content, range);
      const from = range.offset >= 0 ? range.offset : Math.max(0, content.size + range.offset);
      if (from >= content.size) {
        await content[Symbol.asyncIterator]().return?.();
        void reply.header("content-range", `bytes */${content.size}`);
        throw new CorralError("range_invalid", `the file has ${content.size} bytes, the range begins at ${from}`);
      }
      const to = Math.min(content.size, from + (range.length ?? Infinity));
      void reply.code(206).header("content-range", `bytes ${from}-${to - 1}/${content.size}`);
      return await sendContent(reply, content, range);
    },
  );
  const removeQuery = z.strictObject({ ...place, recursive: flag });
  app.delete(
    "/sandboxes/:id/files/content",
    { schema: { params, querystring: removeQuery, tags, summary: "Remove a file or directory" } },
    async (request) => {
      const calls = await files.of(request.token, request.params.id);
      await calls.remove(pathOf(request.query), { recursive: request.query.recursive === "true" });
      return { removed: true };
    },
  );
  const pack = "A directory's content as a tar";
  app.get(
    "/sandboxes/:id/files/archive",
    { schema: { params, querystring: z.strictObject(place), tags, summary: pack } },
    async (request, reply) => {
      const calls = await files.of(request.token, request.params.id);
      await sendBytes(reply, calls.download(pathOf(request.query)), "application/x-tar");
      return reply;
    },
  );
}

/** Bodies are taken as they come, whatever type they say. */
function writeRoutes(raw: ZodApp, files: Service["files"]): void {
  takeRawBodies(raw, ["*"]);
  const writeQuery = z.strictObject({ ...place, mode: octal, parents: flag, exclusive: flag, append: flag, offset: whole.optional() });
  const write = "Write a file, whole or not at all: the body is its content";
  raw.put(
    "/sandboxes/:id/files/content",
    { config: { answers: [201] }, schema: { params, querystring: writeQuery, tags, summary: write } },
    async (request, reply) => {
      const calls = await files.of(request.token, request.params.id);
      const { mode: bits, parents, exclusive, append, offset } = request.query;
      const options: WriteOptions = {
        parents: parents === "true",
        exclusive: exclusive === "true",
        append: append === "true",
        ...(bits === undefined ? {} : { mode: Number.parseInt(bits, 8) }),
        ...(offset === undefined ? {} : { offset }),
      };
      return reply.code(201).send(await calls.write(pathOf(request.query), await incomingFile(request.raw, MAX_UPLOAD_BYTES), options));
    },
  );
  const unpack = "Unpack a tar into a directory: the body is the archive";
  raw.put(
    "/sandboxes/:id/files/archive",
    { schema: { params, querystring: z.strictObject(place), tags, summary: unpack } },
    async (request) => {
      const calls = await files.of(request.token, request.params.id);
      return await calls.upload(pathOf(request.query), incomingBytes(request.raw, MAX_UPLOAD_BYTES));
    },
  );
}

type Reply = Parameters<typeof sendBytes>[0];

/** With its length where that is known. What fits one piece is sent at once. */
async function sendContent(reply: Reply, content: FileContent, { offset = 0, length = Infinity }: RangeOptions): Promise<Reply> {
  const { size } = content;
  void reply.headers({ "content-type": "application/octet-stream", "x-content-type-options": "nosniff", "accept-ranges": "bytes" });
  if (size === null) return reply.send(readable(content, undefined));
  const from = offset >= 0 ? Math.min(offset, size) : Math.max(0, size + offset);
  const bytes = Math.min(length, size - from);
  void reply.headers({ "content-length": bytes, "corral-file-size": size });
  if (bytes > FILE_CHUNK_BYTES) return reply.send(readable(content, bytes));
  const parts: Uint8Array[] = [];
  let got = 0;
  for await (const part of content) {
    parts.push(part);
    got += part.length;
  }
  if (got < bytes) throw new CorralError("file_busy", "the file became shorter while it was read; try again");
  return reply.send(Buffer.concat(parts, bytes));
}

/** One range of bytes; what is none, or several, is not there. */
function rangeOf(header: string | undefined): { readonly offset: number; readonly length?: number } | undefined {
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "") ?? [];
  if (first === "") return last === "" || Number(last) === 0 ? undefined : { offset: -Number(last) };
  if (last === "") return { offset: Number(first) };
  return Number(last) < Number(first) ? undefined : { offset: Number(first), length: Number(last) - Number(first) + 1 };
}
