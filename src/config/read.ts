// What is in force for a server, and where each value came from: defaults, then a file, then the environment, then the command line.
// Not what a key means (schema.ts). Invariant: a later source wins key by key; an unknown key is refused; what is wrong is told by its
// key and its source; a message holds no value, since a value may hold a password.

import { readFileSync } from "node:fs";
import { parse, YAMLParseError } from "yaml";
import { z } from "zod";
import { CorralError } from "../api/errors.ts";
import { configKeys, type ServerConfig, serverConfig } from "./schema.ts";

export interface ConfigSources {
  /** YAML or JSON; `demanded` when a person named it: then it must be there. */
  readonly file?: { readonly path: string; readonly demanded: boolean };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Of the command line: key, text of the value, the words that said so. */
  readonly flags: readonly ConfigFlag[];
}

export interface ConfigFlag {
  readonly key: string;
  readonly text: string;
  readonly source: string;
}

export interface ReadConfig {
  readonly config: ServerConfig;
  /** By dotted key. What is not in it is the default. */
  readonly sources: ReadonlyMap<string, string>;
}

type Tree = Record<string, unknown>;

const MAX_FILE_BYTES = 1024 ** 2;

/** Throws `request_invalid`. */
export function readConfig({ file, env, flags }: ConfigSources): ReadConfig {
  const keys = configKeys();
  const sources = new Map<string, string>();
  const tree = file === undefined ? {} : readFile(file, keys, sources);
  const put = ({ key, text, source }: ConfigFlag): void => {
    const type = keys.get(key);
    if (type === undefined) throw new CorralError("request_invalid", `${source}: there is no key ${JSON.stringify(key)}`);
    set(tree, key.split("."), valueOf(text, type));
    sources.set(key, source);
  };
  for (const one of fromEnv(env, keys)) put(one);
  for (const one of flags) put(one);
  const parsed = serverConfig.safeParse(tree);
  if (!parsed.success)
    throw new CorralError("request_invalid", parsed.error.issues.map((issue) => told(issue, sources, file?.path)).join("; "));
  return { config: parsed.data, sources };
}

/** `CORRAL_STORE_POOL_MAX` for `store.pool.max`. */
export function envName(key: string): string {
  return `CORRAL_${key
    .replaceAll(".", "_")
    .replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2")
    .toUpperCase()}`;
}

function fromEnv(env: ConfigSources["env"], keys: ReadonlyMap<string, z.ZodType>): ConfigFlag[] {
  const named = new Map([...keys.keys()].map((key) => [envName(key), key]));
  const sections = new Set([...keys.keys()].filter((key) => key.includes(".")).map((key) => `${envName(key.split(".")[0] ?? "")}_`));
  const found: ConfigFlag[] = [];
  for (const [name, text] of Object.entries(env)) {
    const key = named.get(name);
    if (key !== undefined && text !== undefined) found.push({ key, text, source: `environment ${name}` });
    // Other programs of ours have variables too; below a section of the configuration a name is a key or a mistake.
    else if ([...sections].some((section) => name.startsWith(section)))
      throw new CorralError("request_invalid", `environment ${name}: there is no such key; corral serve --print-config lists all`);
  }
  return found;
}

/** A file that is read as a whole: its keys go into the tree, which is returned. */
function readFile(
  { path, demanded }: NonNullable<ConfigSources["file"]>,
  keys: ReadonlyMap<string, z.ZodType>,
  sources: Map<string, string>,
): Tree {
  const text = textOf(path, demanded);
  const tree: unknown = text === undefined ? {} : (parsedYaml(text, path) ?? {});
  if (!isTree(tree))
    throw new CorralError("request_invalid", `${path}: expected keys and values, as corral serve --print-config prints them`);
  for (const key of keys.keys()) if (get(tree, key.split(".")) !== undefined) sources.set(key, `file ${path}`);
  return tree;
}

function textOf(path: string, demanded: boolean): string | undefined {
  try {
    const text = readFileSync(path, "utf8");
    if (text.length > MAX_FILE_BYTES) throw new CorralError("request_invalid", `${path}: is larger than ${MAX_FILE_BYTES} bytes`);
    return text;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (cause instanceof CorralError) throw cause;
    if (code === "ENOENT" && !demanded) return undefined;
    throw new CorralError("request_invalid", `the configuration ${path} cannot be read (${code ?? "unknown"})`, { cause });
  }
}

function parsedYaml(text: string, path: string): unknown {
  try {
    return parse(text, { maxAliasCount: 0, prettyErrors: false });
  } catch (cause) {
    const at = cause instanceof YAMLParseError ? ` at line ${text.slice(0, cause.pos[0]).split("\n").length}` : "";
    // SAFETY: the parser's own message quotes the line, which may hold a password.
    throw new CorralError("request_invalid", `${path}: is neither YAML nor JSON${at}`, { cause });
  }
}

/** What a word of the environment or the command line says, by the shape of its key; what it cannot be read as is refused later. */
function valueOf(text: string, type: z.ZodType): unknown {
  if (type instanceof z.ZodArray) return text === "" ? [] : text.split(",").map((part) => part.trim());
  if (text === "null") return null;
  if (type instanceof z.ZodString || type instanceof z.ZodEnum) return text;
  if (type instanceof z.ZodBoolean) return text === "true" ? true : text === "false" ? false : text;
  if (text.startsWith("{")) return objectOf(text);
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

/** JSON, of a key whose value is an object. */
function objectOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function told(issue: z.core.$ZodIssue, sources: ReadonlyMap<string, string>, path: string | undefined): string {
  const key = issue.path.join(".");
  const near = [...sources].find(([name]) => key.startsWith(`${name}.`) || name.startsWith(`${key}.`))?.[1];
  // What is no key at all can only stand in a file: the other sources were asked key by key.
  const source = issue.code === "unrecognized_keys" ? `file ${path}` : (sources.get(key) ?? near ?? `file ${path}`);
  const what =
    issue.code === "unrecognized_keys"
      ? `there is no key ${issue.keys.map((name) => JSON.stringify(key === "" ? name : `${key}.${name}`)).join(", ")}`
      : issue.message;
  return `${key === "" ? "configuration" : key} (${source}): ${what}`;
}

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function get(tree: unknown, [head = "", ...rest]: readonly string[]): unknown {
  if (!isTree(tree) || !Object.hasOwn(tree, head)) return undefined;
  return rest.length === 0 ? tree[head] : get(tree[head], rest);
}

function set(tree: Tree, [head = "", ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    tree[head] = value;
    return;
  }
  // What stands there and is no section stays, so that the schema tells it.
  tree[head] ??= {};
  const inner = tree[head];
  if (isTree(inner)) set(inner, rest, value);
}
