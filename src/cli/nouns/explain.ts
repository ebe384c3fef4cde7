// `corral explain SB PATH`: what the policy of a sandbox says of a path. What a policy file says is `corral policy explain`'s.

import type { Client } from "../../api/client.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { inertLines } from "../../base/inert.ts";
import { print } from "../streams.ts";
import { sandboxId } from "./sandboxes.ts";

export async function explainPath(client: Client, sb: string, path: string, { json }: { readonly json?: boolean }): Promise<number> {
  const told = await client.sandbox(await sandboxId(client, sb)).explain(path);
  await print(json === true ? `${JSON.stringify(told)}\n` : inertLines(told.text));
  return EXIT_OK;
}
