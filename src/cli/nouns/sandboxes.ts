// `corral create`, `ps`, `exec`, `renew`, `pause`, `resume` and `rm`: sandboxes of a server. Invariant: `exec` passes bytes unchanged and ends with the
// program's own exit code; ids go to stdout, one a line, so that they can be used by a script.

import type { Client, ListOptions } from "../../api/client.ts";
import { CorralError, type ErrorCode } from "../../api/errors.ts";
import type { CreateSandboxBody, SandboxResource } from "../../api/server.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { readNetwork } from "../network-words.ts";
import { everyItem } from "../pages.ts";
import { print, sinkOf } from "../streams.ts";
import { table } from "../table.ts";
import { tell } from "../tell.ts";
import { formatMs, parseDuration, parseSize } from "../units.ts";

export interface CreateOptions {
  readonly dir?: string;
  readonly template?: string;
  readonly snapshot?: string;
  readonly policy?: string;
  readonly runtime?: "native" | "bwrap";
  readonly timeout?: string;
  readonly onTimeout?: "kill" | "pause";
  readonly memory?: string;
  readonly env?: readonly string[];
  readonly label?: readonly string[];
  readonly keep?: boolean;
  readonly net?: string;
  readonly allow?: readonly string[];
  readonly json?: boolean;
}

export async function create(client: Client, options: CreateOptions): Promise<number> {
  const { snapshot } = options;
  const from = snapshot === undefined ? {} : { snapshot: await snapshotId(client, snapshot) };
  const sandbox = await client.create({ ...createBody(options), ...from });
  await print(options.json === true ? `${JSON.stringify(await sandbox.info())}\n` : `${sandbox.id}\n`);
  return EXIT_OK;
}

/** What a command line asks for. */
export function createBody(options: CreateOptions): CreateSandboxBody {
  const { dir, template, policy, runtime, timeout, onTimeout, memory, env, label, keep, net, allow } = options;
  return {
    ...(dir === undefined ? {} : { codebaseDir: dir }),
    ...(template === undefined ? {} : { template }),
    ...(policy === undefined ? {} : { policy }),
    ...(runtime === undefined ? {} : { runtime }),
    ...(timeout === undefined ? {} : { timeoutMs: timeout === "never" ? null : parseDuration(timeout, "--timeout") }),
    ...(onTimeout === undefined ? {} : { onTimeout }),
    ...(memory === undefined ? {} : { limits: { memoryBytes: parseSize(memory, "--memory") } }),
    ...(env === undefined ? {} : { env: pairs(env, "--env") }),
    ...((net ?? allow) === undefined ? {} : { network: { allow: readNetwork(net, allow) } }),
    ...(keep === true ? { delta: "keep" } : {}),
    ...(label === undefined ? {} : { metadata: pairs(label, "--label") }),
  };
}

export function pairs(words: readonly string[], option: string): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const at = word.indexOf("=");
      if (at < 1) throw new CorralError("request_invalid", `${option}: expected NAME=VALUE, got ${JSON.stringify(word)}`);
      return [word.slice(0, at), word.slice(at + 1)];
    }),
  );
}

export interface PsOptions {
  readonly all?: boolean;
  readonly label?: readonly string[];
  readonly json?: boolean;
}

export async function ps(client: Client, { all, label, json }: PsOptions): Promise<number> {
  const found: SandboxResource[] = [];
  for await (const sandbox of everySandbox(client, label === undefined ? {} : { metadata: pairs(label, "--label") }))
    if (all === true || sandbox.state !== "failed") found.push(sandbox);
  if (json === true) await print(`${JSON.stringify(found)}\n`);
  else await print(table(["ID", "STATE", "OWNER", "AGE", "ENDS IN", "LABELS"], found.map(row)));
  return EXIT_OK;
}

function everySandbox(client: Client, options: ListOptions): AsyncGenerator<SandboxResource> {
  return everyItem((page) => client.list({ ...options, ...page }));
}

function row({ id, state, ownerId, createdAt, endAt, metadata }: SandboxResource): string[] {
  const now = Date.now();
  const left = endAt === null ? "never" : formatMs(Math.max(0, Date.parse(endAt) - now));
  const labels = Object.entries(metadata).map(([key, value]) => `${key}=${value}`);
  return [id, state, ownerId, formatMs(Math.max(0, now - Date.parse(createdAt))), left, labels.join(" ")];
}

interface IdSearch {
  readonly noun: string;
  readonly code: ErrorCode;
  /** The command that lists them. */
  readonly lister: string;
}

/** The full id that begins with `text`, so that people need not type twenty letters. */
async function onlyId(text: string, { noun, code, lister }: IdSearch, all: () => AsyncIterable<{ readonly id: string }>): Promise<string> {
  if (text.length >= 22) return text;
  const found: string[] = [];
  for await (const { id } of all()) if (id.startsWith(text)) found.push(id);
  const [only, ...others] = found;
  if (only === undefined) throw new CorralError(code, `no ${noun} begins with ${JSON.stringify(text)}; ${lister} lists them`);
  if (others.length > 0)
    throw new CorralError(
      "request_invalid",
      `${found.length} ${noun === "sandbox" ? "sandboxes" : `${noun}s`} begin with ${JSON.stringify(text)}; write more of the id`,
    );
  return only;
}

export async function sandboxId(client: Client, text: string): Promise<string> {
  const search = { noun: "sandbox", code: "sandbox_not_found", lister: "corral ps" } as const;
  return await onlyId(text, search, () => everySandbox(client, {}));
}

export async function snapshotId(client: Client, text: string): Promise<string> {
  const search = { noun: "snapshot", code: "snapshot_not_found", lister: "corral snapshot list" } as const;
  return await onlyId(text, search, () => everyItem((page) => client.snapshots.list(page)));
}

export interface ExecOptions {
  readonly cwd?: string;
  readonly timeout?: string;
  readonly env?: readonly string[];
  readonly stdin?: boolean;
}

export async function exec(client: Client, id: string, command: readonly string[], options: ExecOptions): Promise<number> {
  if (command.length === 0) throw new CorralError("request_invalid", "no command: put it behind --, as in corral exec SB -- make test");
  const sandbox = client.sandbox(await sandboxId(client, id));
  const gone = new AbortController();
  const onBroken = (): void => gone.abort();
  const [stdout, stderr] = [sinkOf(process.stdout, { onBroken }), sinkOf(process.stderr, { onBroken: () => undefined })];
  const result = await sandbox.exec({
    command,
    signal: gone.signal,
    onStdout: stdout.write,
    onStderr: stderr.write,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.timeout === undefined ? {} : { timeoutMs: parseDuration(options.timeout, "--timeout") }),
    ...(options.env === undefined ? {} : { env: pairs(options.env, "--env") }),
    ...(options.stdin === true ? { stdin: await everything(process.stdin) } : {}),
  });
  await stdout.finish();
  await stderr.finish();
  if (result.timedOut) tell("the command was ended: its time was over");
  if (result.limitHit !== null) tell(`the command met its limit: ${result.limitHit}`);
  return result.exitCode;
}

async function everything(stream: NodeJS.ReadStream): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

export async function renew(client: Client, id: string, time: string): Promise<number> {
  const { endAt } = await client.sandbox(await sandboxId(client, id)).renew(time === "never" ? null : parseDuration(time, "TIME"));
  tell(endAt === null ? "it never ends by itself" : `it ends at ${endAt}`);
  return EXIT_OK;
}

export async function pause(client: Client, id: string, { memory }: { readonly memory: boolean }): Promise<number> {
  const { endAt } = await client.sandbox(await sandboxId(client, id)).pause({ memory });
  tell(`paused ${memory ? "with its processes" : "without its processes"}${endAt === null ? "" : `; it is kept until ${endAt}`}`);
  return EXIT_OK;
}

export async function resume(client: Client, id: string): Promise<number> {
  const { endAt } = await client.sandbox(await sandboxId(client, id)).resume();
  tell(endAt === null ? "it runs and never ends by itself" : `it runs and ends at ${endAt}`);
  return EXIT_OK;
}

export async function remove(client: Client, ids: readonly string[]): Promise<number> {
  const found = await Promise.all(ids.map((id) => sandboxId(client, id)));
  for (const id of found) {
    await client.sandbox(id).destroy();
    tell(`destroyed ${id}`);
  }
  return EXIT_OK;
}
