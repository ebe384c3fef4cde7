// Requests for ports of sandboxes, whoever may ask: opens the connection, bounds how many there are, counts, passes on.
// Invariant: a connection ends with its client, with its key, and with its sandbox; all connections of one share its byte rate.

import type { FastifyReply, FastifyRequest } from "fastify";
import { CorralError, errorCode } from "../../api/errors.ts";
import type { PortConnection } from "../../api/sandbox.ts";
import { type Bucket, byteBucket } from "../../base/bucket.ts";
import type { Clock } from "../../base/clock.ts";
import type { ServerConfig } from "../../config/schema.ts";
import type { Port } from "../../service/ports.ts";
import type { Service } from "../../service/service.ts";
import type { Token } from "../../store/tokens.ts";
import type { ServerMetrics } from "../metrics.ts";
import { staged } from "../observe.ts";
import type { Upgrades } from "../upgrade.ts";
import { forwardRequest, forwardUpgrade } from "./forward.ts";
import type { PortForm } from "./headers.ts";

/** Sandboxes whose rate is remembered. */
const MAX_RATES = 10_000;

export interface ProxyParts {
  readonly service: Service;
  readonly clock: Clock;
  readonly config: ServerConfig["proxy"];
  readonly metrics: ServerMetrics;
  readonly upgrades: Upgrades;
}

export interface Asked {
  readonly form: PortForm;
  readonly token: Token;
  readonly to: Port;
  /** Inside, with its query. */
  readonly path: string;
  readonly prefix: string;
  readonly scheme: "http" | "https";
}

export class PortProxy {
  readonly #parts: ProxyParts;
  /** Connections by sandbox. */
  readonly #open = new Map<string, number>();
  /** How fast each may be spoken with; the one that was asked for longest ago first. */
  readonly #rates = new Map<string, Bucket>();

  constructor(parts: ProxyParts) {
    this.#parts = parts;
    parts.metrics.watchProxy(() => [...this.#open.values()].reduce((sum, count) => sum + count, 0));
  }

  /** Answers the request, or throws while nothing of an answer was sent. */
  async answer(request: FastifyRequest, reply: FastifyReply, asked: Asked): Promise<void> {
    const { metrics, upgrades } = this.#parts;
    request.seen.sandboxId = asked.to.sandboxId;
    try {
      await this.#counted(asked.to.sandboxId, async () => {
        const connection = await staged(request, "connect", () => this.#parts.service.ports.connect(asked.token, asked.to));
        const forward = this.#forward(request, asked, { connection, rate: await this.#rateOf(asked) });
        if (upgrades.asks(request))
          return await upgrades.take(request, reply, (socket, head) => forwardUpgrade(request.raw, socket, head, forward));
        await forwardRequest(request.raw, reply.raw, forward);
        void reply.hijack();
      });
      metrics.proxied(asked.form, undefined);
    } catch (error) {
      metrics.proxied(asked.form, errorCode(error) ?? "internal");
      throw error;
    }
  }

  async #counted(id: string, act: () => Promise<void>): Promise<void> {
    const open = this.#open.get(id) ?? 0;
    const { connections } = this.#parts.config;
    if (open >= connections)
      throw new CorralError(
        "limit_reached",
        `the sandbox ${id} has ${connections} connections to its ports, which is the limit; close some`,
      );
    this.#open.set(id, open + 1);
    try {
      await act();
    } finally {
      const left = (this.#open.get(id) ?? 1) - 1;
      if (left === 0) this.#open.delete(id);
      else this.#open.set(id, left);
    }
  }

  async #rateOf({ token, to }: Asked): Promise<Bucket> {
    const { sandboxId } = to;
    const known = this.#rates.get(sandboxId);
    const perSecond = known === undefined ? await this.#parts.service.ports.bytesPerSecond(token, to) : 0;
    // Of two that asked at once the later one takes the earlier one's.
    const rate = this.#rates.get(sandboxId) ?? byteBucket(this.#parts.clock, perSecond);
    this.#rates.delete(sandboxId);
    this.#rates.set(sandboxId, rate);
    const [oldest] = this.#rates.keys();
    if (this.#rates.size > MAX_RATES && oldest !== undefined) this.#rates.delete(oldest);
    return rate;
  }

  #forward(
    request: FastifyRequest,
    { form, to, path, prefix, scheme }: Asked,
    { connection, rate }: { readonly connection: PortConnection; readonly rate: Bucket },
  ): Parameters<typeof forwardRequest>[2] {
    const { config, metrics } = this.#parts;
    return {
      form,
      port: to.port,
      path,
      prefix,
      scheme,
      address: request.ip,
      connection,
      idleTimeoutMs: config.idleTimeoutMs,
      count: (direction, bytes) => {
        const waitMs = rate.take(bytes);
        metrics.proxiedBytes(direction, bytes, waitMs);
        return waitMs;
      },
    };
  }
}
