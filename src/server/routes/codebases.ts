// /v1/codebases: stored codebases, their versions, files and uploads. Contents travel as raw bodies. Nothing is decided here but the shape
// of what comes in. Invariant: a body is read as it comes and never held whole, but for lists of entries, which are bounded.

import { z } from "zod";
import type { BeginUploadBody, CodebaseSource, CreateCodebaseBody } from "../../api/codebases.ts";
import { MAX_ENTRIES_PAGE, MAX_PAGE_ITEMS, MAX_UPLOAD_LIST_BYTES } from "../../api/limits.ts";
import type { Service } from "../../service/service.ts";
import { sendBytes } from "../bytes.ts";
import { incomingContents, takeRawBodies } from "../raw-body.ts";
import { idempotent as headers, noNul, pairs, type ZodApp } from "../shapes.ts";

const tags = ["codebases"];
const params = z.strictObject({ id: z.string().max(64) });
const uploadParams = params.extend({ upload: z.string().max(64) });
const path = noNul.min(1);
const version = z.coerce.number().int().min(1).max(1_000_000_000);
const page = { limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(), cursor: z.string().max(64).optional() };
const git = z.strictObject({
  url: noNul.min(1).max(4_096),
  ref: noNul.min(1).max(255).optional(),
  depth: z.int().min(1).max(1_000_000).optional(),
});
const source = z.union([z.strictObject({ dir: noNul.min(1) }), z.strictObject({ git })]);
const createBody = z.strictObject({ name: noNul.min(1).max(256), labels: pairs.optional(), from: source.optional() });
const listQuery = z.strictObject({ ...page, name: noNul.max(256).optional() });
const entriesQuery = z.strictObject({
  path: noNul.optional(),
  recursive: z.stringbool().optional(),
  version: version.optional(),
  limit: z.coerce.number().int().min(1).max(MAX_ENTRIES_PAGE).optional(),
  cursor: z.string().max(8_192).optional(),
});
const fileQuery = z.strictObject({ path, version: version.optional() });
const changeQuery = z.strictObject({ expectedVersion: version.optional() });
const mode = z.string().regex(/^0?[0-7]{1,3}$/);
const putQuery = changeQuery.extend({ path, mode: mode.optional() });
const entry = z.strictObject({
  path,
  type: z.enum(["file", "dir", "link"]),
  mode: z.int().min(0).max(0o777).optional(),
  mtimeMs: z.number().min(-1e14).max(1e14).optional(),
  size: z.int().min(0).optional(),
  hash: z.string().length(64).optional(),
  target: noNul.optional(),
});
const uploadBody = z.strictObject({ entries: z.array(entry) });

export function codebaseRoutes(app: ZodApp, service: Service): void {
  // Their own scope: bodies of bytes are taken nowhere else by this.
  void app.register((scope, _options, done) => {
    takeRawBodies(scope);
    nounRoutes(scope, service);
    readRoutes(scope, service);
    fileRoutes(scope, service);
    uploadRoutes(scope, service);
    done();
  });
}

function nounRoutes(app: ZodApp, { codebases }: Service): void {
  app.post(
    "/codebases",
    { config: { answers: [201] }, schema: { body: createBody, headers, tags, summary: "Make a codebase" } },
    async (request, reply) => {
      const made = await codebases.create(request.token, request.body as CreateCodebaseBody, request.headers["idempotency-key"]);
      return reply.code(201).send(made);
    },
  );
  app.get("/codebases", { schema: { querystring: listQuery, tags, summary: "List codebases, newest first" } }, async (request) => {
    return await codebases.list(request.token, given(request.query));
  });
  app.get("/codebases/:id", { schema: { params, tags, summary: "One codebase" } }, async (request) => {
    return await codebases.get(request.token, request.params.id);
  });
  app.delete("/codebases/:id", { schema: { params, tags, summary: "Delete a codebase that nothing stands on" } }, async (request) => {
    await codebases.delete(request.token, request.params.id);
    return { deleted: true };
  });
  const versions = z.strictObject(page);
  app.get(
    "/codebases/:id/versions",
    { schema: { params, querystring: versions, tags, summary: "Versions, newest first" } },
    async (request) => {
      return await codebases.versions(request.token, request.params.id, given(request.query));
    },
  );
  app.post(
    "/codebases/:id/import",
    {
      schema: {
        params,
        querystring: changeQuery,
        body: source,
        tags,
        summary: "Replace the tree by a directory of the server's machine or a git repository",
      },
    },
    async (request) => {
      return await codebases.importFrom(request.token, request.params.id, request.body as CodebaseSource, given(request.query));
    },
  );
}

function readRoutes(app: ZodApp, { codebaseReads }: Service): void {
  app.get(
    "/codebases/:id/entries",
    { schema: { params, querystring: entriesQuery, tags, summary: "Entries of a version, sorted" } },
    async (request) => {
      return await codebaseReads.entries(request.token, request.params.id, given(request.query));
    },
  );
  app.get(
    "/codebases/:id/file",
    { schema: { params, querystring: fileQuery, tags, summary: "The bytes of a file" } },
    async (request, reply) => {
      await sendBytes(reply, codebaseReads.read(request.token, request.params.id, request.query.path, request.query.version));
      return reply;
    },
  );
  const tarQuery = z.strictObject({ version: version.optional() });
  app.get(
    "/codebases/:id/tar",
    { schema: { params, querystring: tarQuery, tags, summary: "A version as a tar" } },
    async (request, reply) => {
      await sendBytes(reply, codebaseReads.tar(request.token, request.params.id, request.query.version), "application/x-tar");
      return reply;
    },
  );
}

function fileRoutes(app: ZodApp, { codebases }: Service): void {
  const put = "Put a file; the body is its content";
  app.put("/codebases/:id/file", { schema: { params, querystring: putQuery, tags, summary: put } }, async (request) => {
    const { path: place, mode: octal, ...change } = request.query;
    const file = { path: place, content: request.raw, ...(octal === undefined ? {} : { mode: Number.parseInt(octal, 8) }) };
    return await codebases.put(request.token, request.params.id, file, given(change));
  });
  const remove = "Remove a file, a link, or a directory with all below it";
  const removeQuery = changeQuery.extend({ path });
  app.delete("/codebases/:id/file", { schema: { params, querystring: removeQuery, tags, summary: remove } }, async (request) => {
    const { path: place, ...change } = request.query;
    return await codebases.remove(request.token, request.params.id, place, given(change));
  });
  const tar = "Replace the tree by that of a tar: plain, gzip or zstd";
  app.put("/codebases/:id/tar", { schema: { params, querystring: changeQuery, tags, summary: tar } }, async (request) => {
    return await codebases.importTar(request.token, request.params.id, request.raw, given(request.query));
  });
}

function uploadRoutes(app: ZodApp, { uploads }: Service): void {
  const begin = "Tell a whole tree by its hashes; answers which contents are missing";
  app.post(
    "/codebases/:id/uploads",
    { bodyLimit: MAX_UPLOAD_LIST_BYTES, config: { answers: [201] }, schema: { params, body: uploadBody, tags, summary: begin } },
    async (request, reply) => {
      return reply.code(201).send(await uploads.begin(request.token, request.params.id, request.body as BeginUploadBody));
    },
  );
  const uploadSchema = { params: uploadParams, tags };
  app.get("/codebases/:id/uploads/:upload", { schema: { ...uploadSchema, summary: "What is missing still" } }, async (request) => {
    return await uploads.get(request.token, request.params.id, request.params.upload);
  });
  const send = "Send contents: 32 bytes SHA-256, 8 bytes length (big-endian), the bytes, again and again; Content-Encoding gzip or zstd";
  app.put("/codebases/:id/uploads/:upload/contents", { schema: { ...uploadSchema, summary: send } }, async (request) => {
    await uploads.send(request.token, request.params.id, request.params.upload, incomingContents(request.raw));
    return { received: true };
  });
  app.post(
    "/codebases/:id/uploads/:upload/commit",
    { schema: { ...uploadSchema, querystring: changeQuery, summary: "Make it the current version" } },
    async (request) => {
      return await uploads.commit(request.token, request.params.id, request.params.upload, given(request.query));
    },
  );
  app.delete("/codebases/:id/uploads/:upload", { schema: { ...uploadSchema, summary: "Forget it" } }, async (request) => {
    await uploads.abandon(request.token, request.params.id, request.params.upload);
    return { abandoned: true };
  });
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without what was not given. */
function given<T extends object>(query: T): Given<T> {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined)) as Given<T>;
}
