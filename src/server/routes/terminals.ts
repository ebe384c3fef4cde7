// `GET /v1/ws`: a terminal for whoever shows a one-time ticket; browsers can send no key with a WebSocket. Invariant: the ticket is the only
// way in; what is refused is refused before the handshake, as any other request is.

import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { WebSocketServer } from "ws";
import { z } from "zod";
import { CorralError, errorCode } from "../../api/errors.ts";
import { TERMINAL_MESSAGE_BYTES } from "../../api/limits.ts";
import type { Service } from "../../service/service.ts";
import type { OpenedTerminal } from "../../service/terminals.ts";
import type { RateLimits } from "../rate-limits.ts";
import type { ZodApp } from "../shapes.ts";
import { GOING_AWAY, serveTerminal } from "../terminal-socket.ts";
import type { Upgrades } from "../upgrade.ts";

interface TerminalRouteParts {
  readonly service: Service;
  readonly limits: RateLimits;
  readonly upgrades: Upgrades;
}

export function terminalRoute(app: ZodApp, { service: { terminals, keys }, limits, upgrades }: TerminalRouteParts): void {
  // No compression: its state costs memory for each connection, and a small message could grow without a bound.
  const sockets = new WebSocketServer({ noServer: true, maxPayload: TERMINAL_MESSAGE_BYTES, perMessageDeflate: false });
  app.addHook("preClose", (done) => {
    for (const socket of sockets.clients) socket.close(GOING_AWAY, "the server is ending");
    done();
  });
  const querystring = z.strictObject({ ticket: z.string().max(128) });
  const summary = "A terminal over a WebSocket, by a one-time ticket instead of a key";
  app.get(
    "/v1/ws",
    { config: { answers: [101] }, schema: { querystring, tags: ["terminals"], summary, security: [] } },
    async (request, reply) => {
      if (!upgrades.asks(request)) throw new CorralError("request_invalid", "open this address as a WebSocket");
      const opened = await terminals.open(request.query.ticket).catch(async (error: unknown) => {
        if (errorCode(error) === "ticket_invalid") await limits.countStranger(request.ip);
        throw error;
      });
      await limits.countToken(opened.token);
      request.seen.sandboxId = opened.sandboxId;
      await upgrades.take(request, reply, async (socket, head) => {
        const held = keys.hold(opened.token, () => socket.destroy());
        try {
          await speak(sockets, { request: request.raw, socket, head }, opened, request.id);
        } finally {
          held[Symbol.dispose]();
        }
      });
      return reply;
    },
  );
}

interface Asking {
  readonly request: IncomingMessage;
  readonly socket: Socket;
  readonly head: Buffer;
}

/** Resolves when the connection is over. */
async function speak(
  sockets: WebSocketServer,
  { request, socket, head }: Asking,
  opened: OpenedTerminal,
  requestId: string,
): Promise<void> {
  const closed = closedOf(socket);
  let serving: Promise<void> | undefined;
  sockets.handleUpgrade(request, socket, head, (terminal) => {
    serving = serveTerminal(terminal, opened, requestId);
  });
  await closed;
  // The handshake was refused: nobody knows of what was started for it.
  if (serving === undefined && opened.isNew) await opened.calls.stop(opened.process.id).catch(() => undefined);
  await serving;
}

/** Also of one that broke, or has closed already. */
async function closedOf(socket: Socket): Promise<void> {
  if (socket.closed) return;
  await new Promise((resolve) => socket.once("close", resolve));
}
