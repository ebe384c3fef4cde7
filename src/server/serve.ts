// Starts the server and ends it: lock, store, local client, service, HTTP, in this order, and back. Invariant: the address is told when it
// answers; the admin key is told once, at the first start of a data directory; at the end no sandbox is left.

import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import { CorralError } from "../api/errors.ts";
import { UPGRADE_GOODBYE_MS } from "../api/limits.ts";
import type { Clock } from "../base/clock.ts";
import type { ServerConfig } from "../config/schema.ts";
import type { Service } from "../service/service.ts";
import type { Store } from "../store/store.ts";
import { buildApp } from "./app.ts";
import { answerMetrics } from "./routes/metrics.ts";
import type { McpDoor } from "./routes/mcp.ts";
import { answerBroken, createListener, readCertificate } from "./listener.ts";
import type { ServerMetrics } from "./metrics.ts";
import { Upgrades } from "./upgrade.ts";
import type { ZodApp } from "./shapes.ts";

const LOOPBACK = "127.0.0.1";

export interface Serving extends AsyncDisposable {
  readonly url: string;
  /** For commands of this machine: without TLS. */
  readonly localUrl: string;
  /** Of the port for numbers alone, if there is one. */
  readonly metricsUrl: string | null;
  /** The admin key, at the first start; `null` later. */
  readonly key: string | null;
}

export interface ServeParts {
  readonly store: Store;
  readonly service: Service;
  readonly clock: Clock;
  readonly version: string;
  readonly config: ServerConfig;
  readonly log: Logger;
  /** That the service counts in. */
  readonly metrics: ServerMetrics;
  readonly mcp: McpDoor;
}

export async function startServer(parts: ServeParts): Promise<Serving> {
  const { config } = parts;
  const { host, port } = config.listen;
  const certificate = readCertificate(config.tls);
  parts.metrics.watch(parts.service);
  const upgrades = new Upgrades();
  const app = await buildApp({ ...parts, certificate, upgrades });
  await listening(app.listen({ host, port }), host, port);
  // SAFETY: a certificate names this machine as others see it, and its own commands could not verify it: they are given plain HTTP on
  // the loopback, which leaves the machine no more than a socket file would.
  const local = certificate === undefined ? undefined : await listenLocally(app, config, upgrades);
  const counters = config.metrics.port === null ? undefined : await listenForMetrics(parts, config.metrics.port);
  const url = addressOf(app.server, certificate === undefined ? "http" : "https", host);
  parts.log.info({ url }, "serving");
  return {
    url,
    metricsUrl: counters === undefined ? null : addressOf(counters, "http", config.metrics.host),
    localUrl: local === undefined ? url : addressOf(local, "http", LOOPBACK),
    key: await firstKey(parts),
    [Symbol.asyncDispose]: async () => {
      parts.log.info({ drainMs: config.drainMs }, "ending");
      const cut = setTimeout(() => {
        for (const server of [app.server, local, counters]) server?.closeAllConnections();
      }, config.drainMs);
      for (const server of [local, counters]) {
        server?.close();
        server?.closeIdleConnections();
      }
      // They end when a person does, not when a request is answered: the routes say goodbye when the app begins to close.
      const goodbye = setTimeout(() => upgrades.destroyAll(), Math.min(UPGRADE_GOODBYE_MS, config.drainMs));
      await app.close();
      clearTimeout(goodbye);
      clearTimeout(cut);
    },
  };
}

async function listenLocally(app: ZodApp, config: ServerConfig, upgrades: Upgrades): Promise<Server> {
  const server = createListener(config.http, undefined, (request, response) => app.routing(request, response));
  server.on("clientError", answerBroken);
  upgrades.attach(server, (request, response) => app.routing(request, response));
  server.listen(0, LOOPBACK);
  await listening(once(server, "listening"), LOOPBACK, 0);
  return server;
}

async function listenForMetrics({ config, metrics }: ServeParts, port: number): Promise<Server> {
  const { host } = config.metrics;
  const server = createListener(config.http, undefined, (request, response) => void answerMetrics(metrics, request, response));
  server.on("clientError", answerBroken);
  server.listen(port, host);
  await listening(once(server, "listening"), host, port);
  return server;
}

async function listening(started: Promise<unknown>, host: string, port: number): Promise<void> {
  try {
    await started;
  } catch (cause) {
    const { code = "unknown" } = cause as NodeJS.ErrnoException;
    throw new CorralError("port_unavailable", `the server cannot listen on ${host}:${port} (${code}); choose another with --port`, {
      cause,
    });
  }
}

function addressOf(server: Server, scheme: "http" | "https", host: string): string {
  const { port } = server.address() as AddressInfo;
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

async function firstKey({ store, clock }: ServeParts): Promise<string | null> {
  if (await store.tokens.any()) return null;
  return (await store.tokens.issue({ ownerId: "admin", scope: "admin", name: "first start", now: clock.wallMs() })).secret;
}
