// Requests for ports of sandboxes, whoever may ask: opens the connection, bounds how many there are, counts, passes on.
// Invariant: a connection ends with its client, with its key, and with its sandbox.

import type { FastifyReply, FastifyRequest } from "fastify";
import { CorralError, errorCode } from "../../api/errors.ts";
import type { PortConnection } from "../../api/sandbox.ts";
import type { ServerConfig } from "../../config/schema.ts";
import type { Port } from "../../service/ports.ts";
import type { Service } from "../../service/service.ts";
import type { Token } from "../../store/tokens.ts";
import type { ServerMetrics } from "../metrics.ts";
import { staged } from "../observe.ts";
import type { Upgrades } from "../upgrade.ts";
import { forwardRequest, forwardUpgrade } from "./forward.ts";
import type { PortForm } from "./headers.ts";

export interface ProxyParts {
  readonly service: Service;
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
        const forward = this.#forward(request, asked, connection);
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

  #forward(
    request: FastifyRequest,
    { form, to, path, prefix, scheme }: Asked,
    connection: PortConnection,
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
      count: (direction, bytes) => metrics.proxiedBytes(direction, bytes),
    };
  }
}
