// `corral processes` and `corral kill`: what runs in a sandbox beside its callers.

import type { Client } from "../../api/client.ts";
import type { ProcessInfo } from "../../api/processes.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { print } from "../streams.ts";
import { table } from "../table.ts";
import { tell } from "../tell.ts";
import { sandboxId } from "./sandboxes.ts";

/** Characters of a command in the table. */
const COMMAND_SHOWN = 60;

export async function processes(client: Client, sb: string, { json }: { readonly json?: boolean }): Promise<number> {
  const { items } = await client.sandbox(await sandboxId(client, sb)).processes.list();
  if (json === true) await print(`${JSON.stringify(items)}\n`);
  else await print(table(["ID", "PID", "STATE", "STARTED", "COMMAND"], items.map(row)));
  return EXIT_OK;
}

function row({ id, pid, end, startedAt, command }: ProcessInfo): string[] {
  const words = typeof command === "string" ? command : command.join(" ");
  const state = end === null ? "running" : `ended ${end.signal ?? end.exitCode}`;
  return [id, String(pid), state, startedAt, words.length > COMMAND_SHOWN ? `${words.slice(0, COMMAND_SHOWN)}…` : words];
}

export interface KillOptions {
  readonly signal?: string;
  readonly tree?: boolean;
}

/** Without a signal: SIGINT, SIGTERM, SIGKILL until it has ended. */
export async function kill(client: Client, sb: string, id: string, { signal, tree }: KillOptions): Promise<number> {
  const calls = client.sandbox(await sandboxId(client, sb)).processes;
  if (signal !== undefined) {
    await calls.signal(id, signal.startsWith("SIG") ? signal : `SIG${signal}`, tree === true ? { tree } : {});
    return EXIT_OK;
  }
  const { end } = await calls.stop(id);
  tell(`ended ${end?.signal ?? end?.exitCode ?? ""}`.trimEnd());
  return EXIT_OK;
}
