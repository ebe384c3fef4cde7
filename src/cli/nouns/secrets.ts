// `corral secret set | ls | rm`: secrets of an owner. Invariant: a value comes on stdin alone, so that no list of processes and no history
// of a shell has it, and is printed nowhere.

import type { Client } from "../../api/client.ts";
import { CorralError } from "../../api/errors.ts";
import type { SecretResource } from "../../api/secrets.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { everyItem } from "../pages.ts";
import { print } from "../streams.ts";
import { table } from "../table.ts";
import { tell } from "../tell.ts";

/** More than any value has. */
const MOST_BYTES = 16 * 1024;

export async function set(client: Client, name: string): Promise<number> {
  if (process.stdin.isTTY)
    throw new CorralError("request_invalid", `the value is read from stdin, as in: corral secret set ${name} < FILE`);
  const value = await valueOf(process.stdin);
  const before = await found(client, name);
  if (before === undefined) await client.secrets.create({ name, value });
  else await client.secrets.rotate(before.id, value);
  tell(before === undefined ? `set ${name}` : `${name} has another value from now on`);
  return EXIT_OK;
}

export async function list(client: Client, { json }: { readonly json?: boolean }): Promise<number> {
  const all: SecretResource[] = [];
  for await (const secret of everyItem((page) => client.secrets.list(page))) all.push(secret);
  if (json === true) await print(`${JSON.stringify(all)}\n`);
  else
    await print(
      table(
        ["NAME", "SET AT", "ID"],
        all.map(({ name, updatedAt, id }) => [name, updatedAt, id]),
      ),
    );
  return EXIT_OK;
}

export async function remove(client: Client, names: readonly string[]): Promise<number> {
  for (const name of names) {
    const secret = await found(client, name);
    if (secret === undefined)
      throw new CorralError("secret_not_found", `there is no secret ${JSON.stringify(name)}; corral secret ls lists them`);
    await client.secrets.delete(secret.id);
    tell(`deleted ${name}`);
  }
  return EXIT_OK;
}

async function found(client: Client, name: string): Promise<SecretResource | undefined> {
  for await (const secret of everyItem((page) => client.secrets.list(page))) if (secret.name === name) return secret;
  return undefined;
}

/** Without the line feed that `echo` puts behind it. */
async function valueOf(stream: NodeJS.ReadStream): Promise<string> {
  let text = "";
  for await (const chunk of stream.setEncoding("utf8")) {
    text += chunk as string;
    if (text.length > MOST_BYTES) throw new CorralError("request_invalid", "stdin: no secret is so long");
  }
  return text.replace(/\r?\n$/, "");
}
