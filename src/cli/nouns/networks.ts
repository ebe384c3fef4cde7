// `corral network SB` and `corral egress SB`: what a sandbox may reach outside, and what it was refused. Invariant: what came from inside is
// made inert before a terminal sees it.

import { readFileSync } from "node:fs";
import type { Client } from "../../api/client.ts";
import { CorralError } from "../../api/errors.ts";
import type { EgressResource, NetworkPolicy } from "../../api/network.ts";
import { egressTable } from "../egress-table.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { readNetwork } from "../network-words.ts";
import { everyItem } from "../pages.ts";
import { print } from "../streams.ts";
import { tell } from "../tell.ts";
import { sandboxId } from "./sandboxes.ts";

export interface NetworkOptions {
  readonly set?: string;
  readonly net?: string;
  readonly allow?: readonly string[];
  readonly json?: boolean;
}

export async function network(client: Client, id: string, options: NetworkOptions): Promise<number> {
  const calls = client.sandbox(await sandboxId(client, id)).network;
  const { set, net, allow } = options;
  if (set !== undefined && (net ?? allow) !== undefined)
    throw new CorralError("request_invalid", "--set replaces all rules; give it without --net and --allow, which add to them");
  if (set !== undefined) await calls.set(policyOf(set));
  else if ((net ?? allow) !== undefined) {
    const { policy } = await calls.get();
    const more = readNetwork(net, allow);
    await calls.set(policy === "none" ? { allow: more } : { ...policy, allow: [...(policy.allow ?? []), ...more] });
  }
  const now = await calls.get();
  if (options.json === true) await print(`${JSON.stringify(now)}\n`);
  else {
    await print(`${JSON.stringify(now.policy, undefined, 2)}\n`);
    for (const { rule, left } of now.cut)
      tell(`rule ${rule}: the operator's ceiling leaves ${left === "none" ? "nothing" : "a part"} of it`);
    for (const rule of now.viaProxy) tell(`rule ${rule}: reached through the proxy alone; a program without one takes corral-connect`);
  }
  return EXIT_OK;
}

function policyOf(file: string): NetworkPolicy {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as NetworkPolicy;
  } catch (cause) {
    throw new CorralError("request_invalid", `--set: ${file} holds no JSON that can be read`, { cause });
  }
}

export async function egress(client: Client, id: string, { json }: { readonly json?: boolean }): Promise<number> {
  const sandbox = await sandboxId(client, id);
  const all: EgressResource[] = [];
  for await (const one of everyItem((page) => client.sandbox(sandbox).network.egress(page))) all.push(one);
  if (json === true) await print(`${JSON.stringify(all)}\n`);
  else await print(egressTable(sandbox, all));
  return EXIT_OK;
}
