// Connections that ask to become something else: they go through the same routes and hooks as every request, and whoever answers them
// takes the connection. Not what is spoken afterwards. Invariant: an upgrade that no route takes is answered and its connection closed;
// what the hooks hold for a request is let go when its connection ends.

import { type IncomingMessage, type RequestListener, type Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";

interface Asking {
  readonly socket: Socket;
  /** What came behind the headers already. */
  readonly head: Buffer;
}

export class Upgrades {
  readonly #asking = new WeakMap<IncomingMessage, Asking>();
  readonly #open = new Set<Socket>();
  #isOver = false;

  /** From now on upgrades of this server are requests of `routing`. */
  attach(server: Server, routing: RequestListener): void {
    server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
      socket.on("error", () => socket.destroy());
      const response = new ServerResponse(request);
      response.assignSocket(socket);
      response.shouldKeepAlive = false;
      // Node.js counts such a connection until it is closed, and hands it to nobody: what its client still sends is read by none of us,
      // so an orderly end of both sides would never come.
      response.once("finish", () => socket.end(() => socket.destroy()));
      this.#open.add(socket);
      socket.once("close", () => this.#open.delete(socket));
      this.#asking.set(request, { socket, head });
      routing(request, response);
    });
  }

  /** Whether a request asks for an upgrade. */
  asks(request: FastifyRequest): boolean {
    return this.#asking.has(request.raw);
  }

  /** Takes the connection of a request that asks. The answer's own life ends when `use` ends: hooks that wait for that are called then. */
  async take(request: FastifyRequest, reply: FastifyReply, use: (socket: Socket, head: Buffer) => Promise<void>): Promise<void> {
    const asking = this.#asking.get(request.raw);
    if (asking === undefined) throw new Error("the request asks for no upgrade");
    const { socket, head } = asking;
    reply.raw.detachSocket(socket);
    if (this.#isOver) socket.destroy();
    try {
      await use(socket, head);
    } catch (error) {
      // Nothing was sent: the answer is an ordinary one.
      reply.raw.assignSocket(socket);
      throw error;
    }
    void reply.hijack();
    reply.raw.statusCode = SWITCHING_PROTOCOLS;
    // Node.js emits neither for an answer without a connection.
    reply.raw.emit("finish");
    reply.raw.emit("close");
  }

  /** Cuts all that are open, and whatever asks from now on. */
  destroyAll(): void {
    this.#isOver = true;
    for (const socket of this.#open) socket.destroy();
  }
}

const SWITCHING_PROTOCOLS = 101;
