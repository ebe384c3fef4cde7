// A small client for load over HTTP: keep-alive connections that send one request after the other and read its answer whole. It spends less
// than fetch does, so that on a small machine the server is what is measured. Invariant: an answer with another status than expected throws.

import { connect, type Socket } from "node:net";

export interface Load {
  readonly url: string;
  /** The n-th request's bytes. */
  readonly request: (n: number) => Buffer;
  readonly status: number;
  readonly connections: number;
  readonly ms: number;
}

/** Requests a second. */
export async function perSecond({ url, request, status, connections, ms }: Load): Promise<number> {
  const { hostname, port } = new URL(url);
  let sent = 0;
  const began = performance.now();
  const serve = async (): Promise<number> => {
    const line = new Line(connect(Number(port), hostname));
    let done = 0;
    for (; performance.now() - began < ms; done++) {
      const answered = await line.ask(request(sent++));
      if (answered !== status) throw new Error(`the server answered ${answered}`);
    }
    line.end();
    return done;
  };
  const counts = await Promise.all(Array.from({ length: connections }, serve));
  return (counts.reduce((sum, count) => sum + count, 0) * 1000) / (performance.now() - began);
}

export function httpRequest(method: string, path: string, key: string, body: Buffer = Buffer.alloc(0)): Buffer {
  const type = body.length === 0 ? "" : `content-type: application/octet-stream\r\ncontent-length: ${body.length}\r\n`;
  return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer ${key}\r\n${type}\r\n`), body]);
}

/** One connection. */
class Line {
  readonly #socket: Socket;
  #held: Buffer = Buffer.alloc(0);
  #waiting: PromiseWithResolvers<number> | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", (error) => this.#waiting?.reject(error));
    socket.on("close", () => this.#waiting?.reject(new Error("the server closed the connection")));
  }

  /** The answer's status. */
  ask(request: Buffer): Promise<number> {
    this.#waiting = Promise.withResolvers();
    this.#socket.write(request);
    return this.#waiting.promise;
  }

  end(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const end = this.#held.indexOf("\r\n\r\n");
    if (end === -1) return;
    const head = this.#held.toString("latin1", 0, end);
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0);
    if (this.#held.length < end + 4 + length) return;
    this.#held = this.#held.subarray(end + 4 + length);
    this.#waiting?.resolve(Number(head.slice(9, 12)));
  }
}
