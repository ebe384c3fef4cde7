// The network of sandboxes of many owners: who may see and change its rules, and what it did not carry. What holds for the proxy is
// node-networks.ts's. Invariant: a change is written down before it holds, and whole; a key for one sandbox changes nothing of its network.

import { CorralError } from "../api/errors.ts";
import { MAX_PAGE_ITEMS } from "../api/limits.ts";
import type { EgressResource, NetworkPolicy, NetworkResource, NetworkRule, NetworkVerdict } from "../api/network.ts";
import type { ListOf } from "../api/server.ts";
import type { StoredEvent } from "../store/records.ts";
import type { SandboxRecord } from "../store/sandboxes.ts";
import type { Token } from "../store/tokens.ts";
import { Allowances } from "./allowances.ts";
import type { Audit } from "./audit.ts";
import type { KeptNetwork } from "./node-networks.ts";
import type { ServiceParts } from "./parts.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { tell } from "./tell.ts";

const KIND = "sandbox-egress";
/** Of one sandbox: events at once, and one more in so many ms. SAFETY: a program that tries in a loop fills no disk. */
const EVENTS = [100, 1_000] as const;
/** Likewise rows of the audit log, which are kept for longer. */
const ROWS = [20, 10_000] as const;
const TLS_PORT = 443;

export class Networks implements Disposable {
  readonly #parts: ServiceParts;
  readonly #sandboxes: Sandboxes;
  readonly #audit: Audit;
  readonly #events: Allowances;
  readonly #rows: Allowances;

  constructor(parts: ServiceParts, sandboxes: Sandboxes, audit: Audit) {
    this.#parts = parts;
    this.#sandboxes = sandboxes;
    this.#audit = audit;
    this.#events = new Allowances(parts.clock, ...EVENTS);
    this.#rows = new Allowances(parts.clock, ...ROWS);
    // What cannot be written now is not told; the proxy's own counters have it.
    parts.networks.onVerdict = (verdict) => void this.#hear(verdict).catch(() => undefined);
  }

  async get(token: Token, id: string): Promise<NetworkResource> {
    return this.#resource(await this.#sandboxes.reach(token, id));
  }

  async set(token: Token, id: string, policy: NetworkPolicy): Promise<NetworkResource> {
    // SAFETY: such a key may be held by what runs inside.
    if (token.scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox changes no network; use a key of scope user");
    return await this.#sandboxes.hold(token, id, async (record) => {
      const { networks, store, clock } = this.#parts;
      const before = record.request as KeptNetwork;
      if ((before.network ?? "none") === "none" && before.networkVersion === undefined)
        throw new CorralError(
          "sandbox_state",
          `the sandbox ${id} was made without a network and has no way out; make one with network: { allow: [] }`,
        );
      await networks.demandSound(record.ownerId, policy);
      const request = { ...before, network: policy, networkVersion: (before.networkVersion ?? 1) + 1 };
      await store.sandboxes.setRequest(id, request, clock.wallMs());
      try {
        await networks.refresh(id);
      } catch (error) {
        await store.sandboxes.setRequest(id, before, clock.wallMs());
        throw error;
      }
      await tell(this.#parts, record, "sandbox-network", { version: request.networkVersion });
      return this.#resource({ ...record, request });
    });
  }

  async egress(
    token: Token,
    id: string,
    { after = "0", limit }: { readonly after?: string; readonly limit?: number } = {},
  ): Promise<ListOf<EgressResource>> {
    await this.#sandboxes.reach(token, id);
    if (!/^\d{1,15}$/.test(after))
      throw new CorralError("request_invalid", "cursor: not one that a page before gave; begin again without it");
    const most = Math.min(limit ?? MAX_PAGE_ITEMS, MAX_PAGE_ITEMS);
    const found = await this.#parts.store.events.after({ subjectId: id, kinds: [KIND], seq: Number(after), limit: most });
    const items = found.map(egressOf);
    const last = items.at(-1);
    return items.length < most || last === undefined ? { items } : { items, next: last.id };
  }

  /** Of all sandboxes of this node together. */
  totals(): ReturnType<ServiceParts["networks"]["doors"]["totals"]> {
    return this.#parts.networks.doors.totals();
  }

  [Symbol.dispose](): void {
    this.#parts.networks.onVerdict = () => undefined;
  }

  #resource({ id, request }: Pick<SandboxRecord, "id" | "request">): NetworkResource {
    const { networks } = this.#parts;
    const { network: policy = "none", networkVersion: version = 1 } = request as KeptNetwork;
    return { policy, version, ...networks.factsOf(policy), placeholders: networks.placeholders(id, policy) };
  }

  async #hear(verdict: NetworkVerdict): Promise<void> {
    const { sandboxId: id, ...told } = verdict;
    const missed = this.#events.spend(id);
    const unrecorded = verdict.outcome === "refused" ? this.#rows.spend(id, verdict.count) : undefined;
    if (missed === undefined && unrecorded === undefined) return;
    const record = (await this.#parts.store.sandboxes.some([id])).get(id);
    if (record === undefined) return;
    if (unrecorded !== undefined) this.#record(record, verdict, unrecorded);
    if (missed !== undefined) await tell(this.#parts, record, KIND, { ...told, ...(missed === 0 ? {} : { missed }) });
  }

  /** A refusal as a row of the audit log, with those that got none before it. */
  #record({ id, ownerId }: SandboxRecord, verdict: NetworkVerdict, before: number): void {
    const { reason = "malformed", count, host, port, rule, process, version } = verdict;
    const egress = { version, host, port, rule, process };
    this.#audit.record({ ownerId, tokenId: "", action: KIND, subjectId: id, outcome: reason, details: { count: count + before, egress } });
  }
}

function egressOf({ seq, at, subjectId, data }: StoredEvent): EgressResource {
  const verdict = { at: new Date(at).toISOString(), ...data, sandboxId: subjectId } as NetworkVerdict;
  const allow = ruleFor(verdict);
  return { ...verdict, id: String(seq), ...(allow === undefined ? {} : { allow }) };
}

/** A rule that would carry what was refused. */
function ruleFor({ reason, host, port = TLS_PORT, method, path }: NetworkVerdict): NetworkRule | undefined {
  if (host === undefined) return undefined;
  const at = port === TLS_PORT ? {} : { ports: [port] };
  if (reason === "request" && method !== undefined && path !== undefined) return { host, ...at, methods: [method], paths: [path] };
  if (reason !== "no-rule") return undefined;
  if (/^[\d.]+$|:/.test(host)) return { cidr: host, ...at };
  return { host, ...at, ...(port === TLS_PORT ? {} : { tls: false }) };
}
