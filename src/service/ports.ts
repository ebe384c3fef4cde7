// Ports of sandboxes for those outside: who may reach one, and by what. A key reaches the ports of its sandboxes; a visit, which a one-time
// ticket opens, reaches one port for a while; a port that was made public at creation is reached by everybody.
// Invariant: what is not public is closed; a visit ends with its key, and reaches no other port and no other sandbox.

import { hash } from "node:crypto";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import { MAX_VISITS, VISIT_MS } from "../api/limits.ts";
import type { PortConnection } from "../api/sandbox.ts";
import type { CreateSandboxBody, PortTicket } from "../api/server.ts";
import { randomText } from "../base/random-text.ts";
import type { Token } from "../store/tokens.ts";
import { rateOf } from "./byte-rate.ts";
import type { Keys } from "./keys.ts";
import type { ServiceParts } from "./parts.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { Tickets } from "./tickets.ts";

export interface Port {
  readonly sandboxId: string;
  readonly port: number;
}

interface Visit extends Port {
  readonly token: Token;
  /** Monotonic, ms. */
  readonly until: number;
}

interface PortsParts extends ServiceParts {
  readonly sandboxes: Sandboxes;
  readonly keys: Keys;
}

const MAX_PORT = 65_535;
const VISIT_LENGTH = 40;
/** Sandboxes of which it is remembered what is public: that never changes. */
const MAX_REMEMBERED = 10_000;

export class Ports {
  readonly #parts: PortsParts;
  readonly #tickets: Tickets<Port>;
  /** By hash of their secret, oldest first. */
  readonly #visits = new Map<string, Visit>();
  readonly #public = new Map<string, { readonly ownerId: string; readonly ports: readonly number[] }>();

  constructor(parts: PortsParts) {
    this.#parts = parts;
    this.#tickets = new Tickets(parts.clock);
  }

  async connect(token: Token, { sandboxId, port }: Port): Promise<PortConnection> {
    return await (await this.#parts.sandboxes.open(token, sandboxId)).connect(port);
  }

  /** Bytes a second that pass to and from its ports. */
  async bytesPerSecond(token: Token, { sandboxId }: Port): Promise<number> {
    return rateOf((await this.#parts.sandboxes.reach(token, sandboxId)).request);
  }

  /** For one visit of a port. */
  async ticket(token: Token, { sandboxId, port }: Port): Promise<PortTicket> {
    if (!Number.isInteger(port) || port < 1 || port > MAX_PORT)
      throw new CorralError("request_invalid", `port: expected a number from 1 to ${MAX_PORT}`);
    await this.#parts.sandboxes.get(token, sandboxId);
    return this.#tickets.issue(token, { sandboxId, port });
  }

  /** Turns a ticket into the secret of a visit. Throws `ticket_invalid`, also for a ticket of another port. */
  visit(ticket: string, { sandboxId, port }: Port): { readonly secret: string; readonly expiresInMs: number } {
    const { token, grant } = this.#tickets.take(ticket);
    if (grant.sandboxId !== sandboxId || grant.port !== port)
      throw new CorralError("ticket_invalid", "the ticket is for another port; ask for one of this port");
    const [oldest] = this.#visits.keys();
    if (oldest !== undefined && this.#visits.size >= MAX_VISITS) this.#visits.delete(oldest);
    const secret = randomText(VISIT_LENGTH);
    this.#visits.set(hash("sha256", secret), { token, sandboxId, port, until: this.#parts.clock.monotonicMs() + VISIT_MS });
    return { secret, expiresInMs: VISIT_MS };
  }

  /** The token that a visit acts for, if it is one of this port and its key still holds. */
  async visitor(secret: string, { sandboxId, port }: Port): Promise<Token | undefined> {
    const digest = hash("sha256", secret);
    const visit = this.#visits.get(digest);
    if (visit === undefined || visit.sandboxId !== sandboxId || visit.port !== port) return undefined;
    if (visit.until > this.#parts.clock.monotonicMs() && (await this.#parts.keys.holds(visit.token))) return visit.token;
    this.#visits.delete(digest);
    return undefined;
  }

  /** A token for that sandbox alone, if the port was made public. */
  async stranger({ sandboxId, port }: Port): Promise<Token | undefined> {
    const known = this.#public.get(sandboxId) ?? (await this.#lookUp(sandboxId));
    if (known?.ports.includes(port) !== true) return undefined;
    const { ownerId } = known;
    return { id: "", ownerId, scope: "sandbox", sandboxId, name: "public port", createdAt: 0, expiresAt: null };
  }

  async #lookUp(id: string): Promise<{ readonly ownerId: string; readonly ports: readonly number[] } | undefined> {
    if (!isId("sandbox", id)) return undefined;
    const record = (await this.#parts.store.sandboxes.some([id])).get(id);
    if (record === undefined) return undefined;
    const { publicPorts: ports = [] } = record.request as CreateSandboxBody;
    const found = { ownerId: record.ownerId, ports };
    const [oldest] = this.#public.keys();
    if (oldest !== undefined && this.#public.size >= MAX_REMEMBERED) this.#public.delete(oldest);
    this.#public.set(id, found);
    return found;
  }
}
