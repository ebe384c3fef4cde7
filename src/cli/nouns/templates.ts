// `corral template create | list | rm`: root file systems of a server's sandboxes. It reads one file of this machine, the tar that is named.
// Invariant: of a create that fails on the way no template is left.

import { readFile } from "node:fs/promises";
import type { Client } from "../../api/client.ts";
import { CorralError } from "../../api/errors.ts";
import type { CreateTemplateBody, TemplateDefaults, TemplateResource, TemplateSource } from "../../api/templates.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { everyItem } from "../pages.ts";
import { print } from "../streams.ts";
import { table } from "../table.ts";
import { parseSize } from "../units.ts";
import { pairs } from "./sandboxes.ts";

export interface CreateTemplateOptions {
  readonly tar?: string;
  readonly codebase?: string;
  readonly dir?: string;
  readonly debootstrap?: string;
  readonly include?: readonly string[];
  readonly policy?: string;
  readonly memory?: string;
  readonly env?: readonly string[];
  readonly shared?: boolean;
  readonly json?: boolean;
}

export async function createTemplate(client: Client, name: string, options: CreateTemplateOptions): Promise<number> {
  const { tar, shared, json } = options;
  const from = sourceOf(options);
  const content = tar === undefined ? undefined : await contentOf(tar);
  const body: CreateTemplateBody = {
    name,
    ...(from === undefined ? {} : { from }),
    ...(shared === true ? { shared } : {}),
    defaults: defaultsOf(options),
  };
  let made = await client.templates.create(body);
  if (content !== undefined) made = await filled(client, made.id, content);
  await print(json === true ? `${JSON.stringify(made)}\n` : `${made.id}\n`);
  return EXIT_OK;
}

export async function listTemplates(client: Client, { json }: { readonly json?: boolean }): Promise<number> {
  const found: TemplateResource[] = [];
  for await (const template of everyItem((page) => client.templates.list(page))) found.push(template);
  if (json === true) await print(`${JSON.stringify(found)}\n`);
  else await print(table(["ID", "STATE", "OWNER", "NAME", "SIZE", "WHY"], found.map(row)));
  return EXIT_OK;
}

export async function removeTemplates(client: Client, ids: readonly string[]): Promise<number> {
  for (const id of ids) await client.templates.delete(id);
  return EXIT_OK;
}

async function contentOf(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const { code = "unknown" } = cause as NodeJS.ErrnoException;
    throw new CorralError("request_invalid", `--tar: ${JSON.stringify(path)} cannot be read (${code}); name a tar archive`, { cause });
  }
}

async function filled(client: Client, id: string, content: Uint8Array): Promise<TemplateResource> {
  try {
    return await client.templates.importTar(id, content);
  } catch (error) {
    await client.templates.delete(id).catch(() => undefined); // what the import said is the one to tell
    throw error;
  }
}

/** One of the four, or none: then it waits for a tar. */
function sourceOf({ tar, codebase, dir, debootstrap, include = [] }: CreateTemplateOptions): TemplateSource | undefined {
  if ([tar, codebase, dir, debootstrap].filter((one) => one !== undefined).length > 1)
    throw new CorralError("request_invalid", "--tar, --codebase, --dir and --debootstrap: a root comes from one of them");
  if (include.length > 0 && debootstrap === undefined)
    throw new CorralError("request_invalid", "--include: packages are installed with --debootstrap SUITE alone");
  if (codebase !== undefined) return { codebase: { id: codebase } };
  if (dir !== undefined) return { dir };
  return debootstrap === undefined ? undefined : { debootstrap: { suite: debootstrap, include } };
}

function defaultsOf({ policy, memory, env }: CreateTemplateOptions): TemplateDefaults {
  return {
    ...(policy === undefined ? {} : { policy }),
    ...(memory === undefined ? {} : { limits: { memoryBytes: parseSize(memory, "--memory") } }),
    ...(env === undefined ? {} : { env: pairs(env, "--env") }),
  };
}

function row({ id, state, ownerId, name, bytes, progress, reason }: TemplateResource): string[] {
  return [id, state, ownerId ?? "-", name, bytes === 0 ? "-" : `${(bytes / 1024 ** 2).toFixed(1)}M`, reason ?? progress?.step ?? ""];
}
