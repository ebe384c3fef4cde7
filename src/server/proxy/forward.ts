// One request, or one upgraded connection, passed on to a program inside a sandbox and its answer passed back, both as streams.
// Not who may ask. Invariant: nothing is kept beyond what streams hold; a side that is silent too long, or gone, takes the other with it;
// what is cut off half-way is cut off for the client too, never ended as if it were whole.

import { type IncomingMessage, request as httpRequest, type ServerResponse } from "node:http";
import { Duplex, type Readable, Transform } from "node:stream";
import { CorralError, errorCode } from "../../api/errors.ts";
import type { PortConnection } from "../../api/sandbox.ts";
import { type Inward, inwardHeaders, outwardHeaders, type PortForm } from "./headers.ts";

export interface Forward extends Inward {
  /** Inside, with its query. */
  readonly path: string;
  readonly connection: PortConnection;
  readonly idleTimeoutMs: number;
  /** Answers how long more has to wait, ms. */
  readonly count: (direction: "in" | "out", bytes: number) => number;
}

/** Headers of an answer from inside, bytes. */
const MAX_ANSWER_HEADERS_BYTES = 64 * 1024;

/** Resolves when the answer is whole. Throws while nothing of it was sent; later the client's connection is cut. */
export async function forwardRequest(request: IncomingMessage, response: ServerResponse, forward: Forward): Promise<void> {
  const call = new Call(request, forward);
  response.once("close", () => call.end());
  try {
    const { answer, socket } = await call.answered();
    if (socket !== undefined) throw new Error("it switched protocols without being asked to");
    // An answer before the request is whole: what is still on its way may never be read, so no other request may come behind it.
    const last = request.complete ? {} : { connection: "close" };
    response.writeHead(answer.statusCode ?? 502, { ...outwardHeaders(answer, forward.form), ...last });
    response.flushHeaders();
    await call.pass(answer, response, "out");
  } catch (error) {
    call.end();
    if (!response.headersSent) throw call.told(error);
    response.destroy();
  } finally {
    // Likewise when the server itself answers.
    if (!request.complete) afterwards(response, () => request.socket.destroySoon());
  }
}

/** Passes a WebSocket through. Throws while nothing was sent. */
export async function forwardUpgrade(request: IncomingMessage, client: Duplex, head: Buffer, forward: Forward): Promise<void> {
  const call = new Call(request, forward, request.headers.upgrade);
  client.once("close", () => call.end());
  let isTold = false;
  try {
    const { answer, socket, head: first } = await call.answered();
    isTold = true;
    const status = `HTTP/1.1 ${answer.statusCode ?? 502} ${socket === undefined ? "Answered" : "Switching Protocols"}`;
    client.write(
      `${status}\r\n${headerLines(answer, forward.form, socket === undefined ? undefined : answer.headers.upgrade)}\r\n`,
      "latin1",
    );
    if (socket === undefined) return await call.pass(answer, client, "out");
    if (first !== undefined && first.length > 0) client.write(first);
    if (head.length > 0) socket.write(head);
    await Promise.all([call.pass(socket, client, "out"), call.pass(client, socket, "in")]);
  } catch (error) {
    call.end();
    if (!isTold && !client.destroyed) throw call.told(error);
    client.destroy();
  }
}

function afterwards(response: ServerResponse, act: () => void): void {
  if (response.writableFinished) act();
  else response.once("finish", act);
}

interface Answered {
  readonly answer: IncomingMessage;
  /** After an upgrade. */
  readonly socket?: Duplex;
  readonly head?: Buffer;
}

/** A request on its way inside, with the clock that ends it. */
class Call {
  readonly #request: IncomingMessage;
  readonly #forward: Forward;
  readonly #socket: Duplex;
  readonly #inside: ReturnType<typeof httpRequest>;
  readonly #idle: NodeJS.Timeout;
  readonly #ended = Promise.withResolvers<void>();
  #isIdle = false;
  #failure: unknown;
  readonly #upgrade: string | undefined;

  constructor(request: IncomingMessage, forward: Forward, upgrade?: string) {
    this.#request = request;
    this.#forward = forward;
    this.#upgrade = upgrade;
    this.#socket = Duplex.fromWeb(forward.connection as Parameters<typeof Duplex.fromWeb>[0]);
    // Whatever breaks it is told to the request, which tells its caller; a socket of which nobody hears must not end the process.
    this.#socket.on("error", (error) => {
      this.#failure ??= error;
    });
    const headers = inwardHeaders(request, forward);
    this.#inside = httpRequest({
      method: request.method ?? "GET",
      path: forward.path,
      headers: upgrade === undefined ? headers : { ...headers, connection: "upgrade", upgrade },
      setHost: false,
      maxHeaderSize: MAX_ANSWER_HEADERS_BYTES,
      createConnection: () => this.#socket,
    });
    this.#inside.on("error", () => undefined); // beside the one who waits for the answer
    this.#idle = setTimeout(() => {
      this.#isIdle = true;
      this.end();
    }, forward.idleTimeoutMs);
  }

  async answered(): Promise<Answered> {
    const answered = Promise.withResolvers<Answered>();
    this.#inside.once("error", answered.reject);
    this.#inside.once("close", () => answered.reject(new CorralError("stream_cut", "the connection ended before there was an answer")));
    this.#inside.once("response", (answer) => answered.resolve({ answer }));
    this.#inside.once("upgrade", (answer, socket, head) => answered.resolve({ answer, socket, head }));
    if (this.#upgrade === undefined) {
      this.#request.pipe(this.#watched("in")).pipe(this.#inside);
    } else {
      this.#inside.end();
    }
    return await answered.promise;
  }

  /** Resolves when all of it went through. */
  async pass(from: Readable, to: NodeJS.WritableStream, direction: "in" | "out"): Promise<void> {
    const done = Promise.withResolvers<void>();
    const watched = this.#watched(direction);
    watched.once("end", done.resolve);
    from.once("error", done.reject);
    from.once("close", () => {
      if (!from.readableEnded) done.reject(new CorralError("stream_cut", "the connection ended in the middle"));
    });
    void this.#ended.promise.then(() => done.reject(new CorralError("stream_cut", "the connection was cut")));
    from.pipe(watched).pipe(to);
    await done.promise;
  }

  end(): void {
    clearTimeout(this.#idle);
    this.#ended.resolve();
    this.#inside.destroy();
    this.#socket.destroy();
  }

  /** Why there is no answer, in a word of the table. */
  told(error: unknown): CorralError {
    if (this.#isIdle)
      return new CorralError(
        "port_timeout",
        `port ${this.#forward.port} of the sandbox said nothing for ${this.#forward.idleTimeoutMs} ms`,
      );
    for (const cause of [this.#failure, error]) if (errorCode(cause) !== undefined) return cause as CorralError;
    return new CorralError("port_reply_invalid", `what port ${this.#forward.port} of the sandbox answered is no HTTP/1.1`, {
      cause: error,
    });
  }

  /** Counts what passes, and holds it back where it is too fast: each side waits for the other as it always does. */
  #watched(direction: "in" | "out"): Transform {
    return new Transform({
      transform: (chunk: Uint8Array, _encoding, passOn) => {
        this.#idle.refresh();
        const waitMs = this.#forward.count(direction, chunk.length);
        if (waitMs === 0) passOn(null, chunk);
        else setTimeout(passOn, waitMs, null, chunk);
      },
    });
  }
}

function headerLines(answer: IncomingMessage, form: PortForm, upgrade: string | undefined): string {
  const headers = outwardHeaders(answer, form);
  const last = upgrade === undefined ? { connection: "close" } : { connection: "Upgrade", upgrade };
  return Object.entries({ ...headers, ...last })
    .flatMap(([name, value]) => [value ?? []].flat().map((one) => `${name}: ${String(one)}\r\n`))
    .join("");
}
