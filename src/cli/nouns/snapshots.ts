// `corral snapshot take | list | rm`, `corral restore` and `corral fork`: files of sandboxes at one moment. Invariant: ids go to stdout,
// one a line, so that they can be used by a script.

import type { Client } from "../../api/client.ts";
import { CorralError } from "../../api/errors.ts";
import type { SnapshotResource } from "../../api/snapshots.ts";
import { EXIT_FAILED, EXIT_OK } from "../exit-codes.ts";
import { everyItem } from "../pages.ts";
import { print } from "../streams.ts";
import { table } from "../table.ts";
import { tell } from "../tell.ts";
import { formatSize, formatMs, parseDuration } from "../units.ts";
import { pairs, sandboxId, snapshotId } from "./sandboxes.ts";

export interface TakeOptions {
  readonly name?: string;
  readonly label?: readonly string[];
  readonly json?: boolean;
}

export async function take(client: Client, id: string, { name, label, json }: TakeOptions): Promise<number> {
  const taken = await client.sandbox(await sandboxId(client, id)).snapshot({
    ...(name === undefined ? {} : { name }),
    ...(label === undefined ? {} : { metadata: pairs(label, "--label") }),
  });
  await print(json === true ? `${JSON.stringify(taken)}\n` : `${taken.id}\n`);
  return EXIT_OK;
}

export interface ListOptions {
  readonly sandbox?: string;
  readonly name?: string;
  readonly json?: boolean;
}

export async function list(client: Client, { sandbox, name, json }: ListOptions): Promise<number> {
  const found: SnapshotResource[] = [];
  const wanted = {
    ...(sandbox === undefined ? {} : { sandboxId: await sandboxId(client, sandbox) }),
    ...(name === undefined ? {} : { name }),
  };
  for await (const snapshot of everyItem((page) => client.snapshots.list({ ...wanted, ...page }))) found.push(snapshot);
  if (json === true) await print(`${JSON.stringify(found)}\n`);
  else await print(table(["ID", "SANDBOX", "OWNER", "AGE", "SIZE", "NAME"], found.map(row)));
  return EXIT_OK;
}

function row({ id, sandboxId: of, ownerId, createdAt, bytes, name }: SnapshotResource): string[] {
  return [id, of, ownerId, formatMs(Math.max(0, Date.now() - Date.parse(createdAt))), formatSize(bytes), name];
}

export async function remove(client: Client, ids: readonly string[]): Promise<number> {
  for (const id of await Promise.all(ids.map((each) => snapshotId(client, each)))) {
    await client.snapshots.delete(id);
    tell(`deleted ${id}`);
  }
  return EXIT_OK;
}

export async function restore(client: Client, id: string, snapshot: string): Promise<number> {
  const sandbox = client.sandbox(await sandboxId(client, id));
  const { state } = await sandbox.restore(await snapshotId(client, snapshot));
  tell(`restored; its processes have ended, and it is ${state}`);
  return EXIT_OK;
}

export interface ForkOptions {
  readonly count?: string;
  readonly timeout?: string;
}

export async function fork(client: Client, id: string, { count, timeout }: ForkOptions): Promise<number> {
  if (count !== undefined && !/^\d{1,6}$/.test(count))
    throw new CorralError("request_invalid", `--count: expected a number, got ${JSON.stringify(count)}`);
  const made = await client.sandbox(await sandboxId(client, id)).fork({
    ...(count === undefined ? {} : { count: Number(count) }),
    ...(timeout === undefined ? {} : { timeoutMs: timeout === "never" ? null : parseDuration(timeout, "--timeout") }),
  });
  const failed = made.filter((item) => item instanceof CorralError);
  await print(made.map((item) => (item instanceof CorralError ? "" : `${item.id}\n`)).join(""));
  for (const { code, message } of failed) tell(`a fork failed: ${code}: ${message}`);
  return failed.length === 0 ? EXIT_OK : EXIT_FAILED;
}
