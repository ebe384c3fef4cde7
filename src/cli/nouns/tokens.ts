// `corral token issue | list | revoke`: keys of a server. Invariant: a secret goes to stdout alone, once.

import type { Client } from "../../api/client.ts";
import { CorralError } from "../../api/errors.ts";
import type { IssueTokenBody } from "../../api/server.ts";
import { EXIT_FAILED, EXIT_OK } from "../exit-codes.ts";
import { print } from "../streams.ts";
import { table } from "../table.ts";
import { tell } from "../tell.ts";
import { parseDuration } from "../units.ts";
import { sandboxId } from "./sandboxes.ts";

export interface IssueOptions {
  readonly scope: "admin" | "user" | "sandbox";
  readonly sandbox?: string;
  readonly name: string;
  readonly expires?: string;
  readonly json?: boolean;
}

export async function issue(client: Client, ownerId: string, options: IssueOptions): Promise<number> {
  const { scope, name, sandbox, expires } = options;
  if (scope === "sandbox" && sandbox === undefined)
    throw new CorralError("request_invalid", "--sandbox: a key of scope sandbox names the sandbox it is for");
  const body: IssueTokenBody = {
    ownerId,
    scope,
    name,
    ...(sandbox === undefined ? {} : { sandboxId: await sandboxId(client, sandbox) }),
    ...(expires === undefined ? {} : { expiresInMs: parseDuration(expires, "--expires") }),
  };
  const issued = await client.tokens.issue(body);
  await print(options.json === true ? `${JSON.stringify(issued)}\n` : `${issued.secret}\n`);
  return EXIT_OK;
}

export async function list(client: Client, { owner, json }: { readonly owner?: string; readonly json?: boolean }): Promise<number> {
  const { items } = await client.tokens.list(owner === undefined ? {} : { ownerId: owner });
  if (json === true) await print(`${JSON.stringify(items)}\n`);
  else {
    const rows = items.map(({ id, ownerId, scope, name, expiresAt }) => [id, ownerId, scope, name, expiresAt ?? "never"]);
    await print(table(["ID", "OWNER", "SCOPE", "NAME", "EXPIRES"], rows));
  }
  return EXIT_OK;
}

export async function revoke(client: Client, id: string, { owner }: { readonly owner?: string }): Promise<number> {
  if (await client.tokens.revoke(id, owner === undefined ? {} : { ownerId: owner })) return EXIT_OK;
  tell(`there is no key ${id}, or it was revoked before`);
  return EXIT_FAILED;
}
