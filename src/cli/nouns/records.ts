// `corral events` and `corral audit`: what happened, and who asked for what. Invariant: one line a record, inert.

import type { AuditResource } from "../../api/audit.ts";
import type { Client } from "../../api/client.ts";
import type { EventResource } from "../../api/events.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { inert } from "../../base/inert.ts";
import { interruption } from "../interrupt.ts";
import { everyItem } from "../pages.ts";
import { print } from "../streams.ts";
import { sandboxId } from "./sandboxes.ts";

export interface EventsOptions {
  readonly follow?: boolean;
  readonly kind?: readonly string[];
  readonly sandbox?: string;
  readonly json?: boolean;
}

/** Those that are kept; with `follow` those that come after them too. */
export async function events(client: Client, { follow, kind, sandbox, json }: EventsOptions): Promise<number> {
  const filter = {
    ...(kind === undefined ? {} : { kinds: kind }),
    ...(sandbox === undefined ? {} : { sandboxId: await sandboxId(client, sandbox) }),
  };
  const show = async (event: EventResource): Promise<void> => await print(`${json === true ? JSON.stringify(event) : eventLine(event)}\n`);
  let after = "0";
  for await (const event of everyItem((page) => client.events.list({ ...filter, ...page }))) {
    await show(event);
    after = event.id;
  }
  if (follow !== true) return EXIT_OK;
  using stop = interruption();
  try {
    for await (const event of client.events.follow({ ...filter, after, signal: stop.soft })) await show(event);
  } catch (error) {
    if (!stop.soft.aborted) throw error;
  }
  return EXIT_OK;
}

function eventLine({ at, kind, ownerId, subjectId, data }: EventResource): string {
  const more = Object.keys(data).length === 0 ? "" : `  ${JSON.stringify(data)}`;
  return inert(`${at}  ${kind}  ${ownerId}  ${subjectId}${more}`);
}

export async function audit(client: Client, { subject, json }: { readonly subject?: string; readonly json?: boolean }): Promise<number> {
  const about = subject === undefined ? {} : { subjectId: subject };
  for await (const row of everyItem((page) => client.audit.list({ ...about, ...page })))
    await print(`${json === true ? JSON.stringify(row) : auditLine(row)}\n`);
  return EXIT_OK;
}

function auditLine({ at, ownerId, tokenId, action, subjectId, outcome, count, egress }: AuditResource): string {
  const who = ownerId === "" ? "(no key)" : `${ownerId} ${tokenId}`.trim();
  const wanted = egress === undefined ? "" : `  ${egress.process ?? "-"} to ${egress.host ?? "-"}:${egress.port ?? "-"}`;
  return inert(`${at}  ${action}  ${subjectId || "-"}  ${outcome}  ${who}${wanted}${count === undefined ? "" : `  ${count} times`}`);
}
