// `corral codebase import | ls | cat | versions | export | rm`: stored codebases of a server. An import reads one directory or tar of this
// machine and sends what the server lacks. Invariant: of an import that fails no new codebase is left; bytes of a codebase go to a terminal
// filtered, elsewhere as they are.

import { lstat, readdir, readFile, readlink, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { Client } from "../../api/client.ts";
import type { CodebaseEntry, CodebaseResource, CodebaseVersion } from "../../api/codebases.ts";
import { CorralError } from "../../api/errors.ts";
import { type TreeEntry, uploadTree } from "../../sdk/corral.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { everyItem } from "../pages.ts";
import { print, sinkOf } from "../streams.ts";
import { table } from "../table.ts";
import { tell } from "../tell.ts";
import { formatCount } from "../units.ts";
import { Progress } from "./progress.ts";

const MODE_BITS = 0o777;

export interface ImportOptions {
  readonly name?: string;
  readonly to?: string;
  readonly ref?: string;
  readonly depth?: string;
  readonly json?: boolean;
}

/** With a host or a path behind it; `C:\\x` of Windows is none. */
const URL_OF_GIT = /^[a-z][a-z0-9+.-]+:\/\//i;

export async function importCodebase(client: Client, path: string, options: ImportOptions): Promise<number> {
  if (URL_OF_GIT.test(path)) return await tellMade(await importGit(client, path, options), options);
  const { name, to, ref, depth } = options;
  if (ref !== undefined || depth !== undefined)
    throw new CorralError("request_invalid", "--ref and --depth are of a git repository; name it by its https:// address");
  const isDir = await isDirectory(path);
  if (to !== undefined && name !== undefined)
    throw new CorralError("request_invalid", "--name and --to: a codebase that is there has its name");
  const id = to ?? (await client.codebases.create({ name: name ?? basename(resolve(path)) })).id;
  try {
    const made = await (isDir ? importTree(client, id, path) : client.codebases.importTar(id, await readFile(path)));
    return await tellMade(made, options);
  } catch (error) {
    // What the import said is the one to tell.
    if (to === undefined) await client.codebases.delete(id).catch(() => undefined);
    throw error;
  }
}

async function tellMade(made: CodebaseResource, { json }: ImportOptions): Promise<number> {
  await print(json === true ? `${JSON.stringify(made)}\n` : `${made.id}\n`);
  tell(`version ${made.version.number}: ${formatCount(made.version.files, "file")}, ${made.version.bytes} bytes`);
  return EXIT_OK;
}

/** The server fetches it: what it may reach is its configuration's to say. */
async function importGit(client: Client, url: string, { name, to, ref, depth }: ImportOptions): Promise<CodebaseResource> {
  if (to !== undefined) throw new CorralError("request_invalid", "--to: a commit of a git repository becomes a codebase of its own");
  const last = url.split("/").findLast((part) => part !== "") ?? url;
  const git = {
    url,
    ...(ref === undefined ? {} : { ref }),
    ...(depth === undefined ? {} : { depth: numberOf(depth, "--depth", "commits") }),
  };
  return await client.codebases.create({ name: name ?? last.replace(/\.git$/, ""), from: { git } });
}

async function importTree(client: Client, id: string, path: string): Promise<CodebaseResource> {
  const progress = new Progress("sent");
  try {
    return await uploadTree(client.codebases, id, entries(path, ""), { onProgress: ({ missing, sent }) => progress.show(sent, missing) });
  } finally {
    progress.end();
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (cause) {
    throw new CorralError(
      "request_invalid",
      `${JSON.stringify(path)} cannot be read (${(cause as NodeJS.ErrnoException).code ?? "unknown"})`,
      {
        cause,
      },
    );
  }
}

/** Below `dir`, at `under` in the codebase. What is neither file, directory nor link is left out and told. */
async function* entries(dir: string, under: string): AsyncGenerator<TreeEntry> {
  for (const bytes of await readdir(dir, { encoding: "buffer" })) {
    const name = bytes.toString("utf8");
    if (!Buffer.from(name).equals(bytes))
      throw new CorralError(
        "codebase_unreadable",
        `${join(dir, name)}: a name that is not UTF-8 cannot be uploaded; import a tar of the directory`,
      );
    const [place, path] = [join(dir, name), `${under}${name}`];
    const stats = await lstat(place);
    const about = { path, mode: stats.mode & MODE_BITS, mtimeMs: Math.trunc(stats.mtimeMs) };
    if (stats.isDirectory()) {
      yield { ...about, type: "dir" };
      yield* entries(place, `${path}/`);
    } else if (stats.isFile()) yield { ...about, type: "file", content: () => readFile(place) };
    else if (stats.isSymbolicLink()) yield { path, type: "link", mtimeMs: about.mtimeMs, target: await readlink(place) };
    else tell(`left out: ${place} (neither a file, a directory nor a link)`);
  }
}

interface Listing {
  readonly at?: string;
  readonly recursive?: boolean;
  readonly json?: boolean;
}

/** Without an id: the codebases; with one: what is in it. */
export async function listCodebases(client: Client, id: string | undefined, path: string | undefined, options: Listing): Promise<number> {
  if (id !== undefined) return await listEntries(client, id, path, options);
  const found: CodebaseResource[] = [];
  for await (const one of everyItem((page) => client.codebases.list(page))) found.push(one);
  if (options.json === true) await print(`${JSON.stringify(found)}\n`);
  else await print(table(["ID", "NAME", "OWNER", "VERSION", "FILES", "BYTES", "CHANGED"], found.map(codebaseRow)));
  return EXIT_OK;
}

function codebaseRow({ id, name, ownerId, version, updatedAt }: CodebaseResource): string[] {
  return [id, name, ownerId, String(version.number), String(version.files), String(version.bytes), updatedAt];
}

async function listEntries(client: Client, id: string, path: string | undefined, { at, recursive, json }: Listing): Promise<number> {
  const found: CodebaseEntry[] = [];
  const about = { ...(path === undefined ? {} : { path }), ...(recursive === true ? { recursive } : {}), ...versionOf(at) };
  for await (const one of everyItem((page) => client.codebases.entries(id, { ...about, ...page }))) found.push(one);
  if (json === true) await print(`${JSON.stringify(found)}\n`);
  else await print(table(["SIZE", "CHANGED", "PATH"], found.map(entryRow)));
  return EXIT_OK;
}

function entryRow({ path, type, size, modifiedAt, target }: CodebaseEntry): string[] {
  return [String(size), modifiedAt, type === "dir" ? `${path}/` : type === "link" ? `${path} -> ${target ?? ""}` : path];
}

export async function versions(client: Client, id: string, { json }: { readonly json?: boolean }): Promise<number> {
  const found: CodebaseVersion[] = [];
  for await (const one of everyItem((page) => client.codebases.versions(id, page))) found.push(one);
  if (json === true) await print(`${JSON.stringify(found)}\n`);
  else await print(table(["VERSION", "MADE", "FILES", "BYTES", "FROM"], found.map(versionRow)));
  return EXIT_OK;
}

function versionRow({ number, createdAt, files, bytes, source }: CodebaseVersion): string[] {
  return [String(number), createdAt, String(files), String(bytes), source];
}

export async function catCodebase(client: Client, id: string, path: string, { at }: { readonly at?: string }): Promise<number> {
  const out = sinkOf(process.stdout, { onBroken: () => undefined });
  for await (const chunk of client.codebases.read(id, path, versionOf(at))) await out.write(chunk);
  await out.finish();
  return EXIT_OK;
}

export async function exportCodebase(client: Client, id: string, { at }: { readonly at?: string }): Promise<number> {
  if (process.stdout.isTTY)
    throw new CorralError("request_invalid", "a tar is no text: send it to a file or a pipe (corral codebase export ID > code.tar)");
  for await (const chunk of client.codebases.tar(id, versionOf(at))) await print(chunk);
  return EXIT_OK;
}

export async function removeCodebases(client: Client, ids: readonly string[]): Promise<number> {
  for (const id of ids) {
    await client.codebases.delete(id);
    tell(`deleted ${id}`);
  }
  return EXIT_OK;
}

function versionOf(text: string | undefined): { readonly version?: number } {
  return text === undefined ? {} : { version: numberOf(text, "--at", "a version") };
}

function numberOf(text: string, option: string, what: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new CorralError("request_invalid", `${option}: ${JSON.stringify(text)} is no number of ${what}`);
  return Number(text);
}
