// One request as bytes over a connection of its own, and what came back: what no HTTP client would send must be sent.

import { connect } from "node:net";

export interface RawAnswer {
  /** 0: the connection ended without an answer; -1: nothing came in time. */
  readonly status: number;
  readonly contentType: string;
  /** At most `MAX_BODY_BYTES`. */
  readonly body: string;
}

const MAX_BODY_BYTES = 1024 * 1024;

export interface Patience {
  /** For the headers, ms. */
  readonly headersMs: number;
  /** For the rest: some answers never end, ms. */
  readonly bodyMs: number;
}

/** `cut`: our side ends without the rest of what it promised. */
export function send(port: number, bytes: Buffer, { headersMs, bodyMs }: Patience, cut = false): Promise<RawAnswer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let hasBegun = false;
    let timer = setTimeout(() => finish(-1), headersMs);
    const socket = connect(port, "127.0.0.1");
    const finish = (none: number): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(parsed(Buffer.concat(chunks), none));
    };
    socket.on("connect", () => (cut ? socket.end(bytes) : socket.write(bytes)));
    socket.on("error", () => finish(0));
    socket.on("close", () => finish(0));
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (!hasBegun && parsed(Buffer.concat(chunks), 0).status > 0) {
        hasBegun = true;
        clearTimeout(timer);
        timer = setTimeout(() => finish(0), bodyMs);
      }
      if (size > MAX_BODY_BYTES) finish(0);
    });
  });
}

function parsed(bytes: Buffer, none: number): RawAnswer {
  const head = /^HTTP\/1\.1 (\d{3})[^\r]*\r\n((?:[^\r\n]+\r\n)*)\r\n([^]*)$/.exec(bytes.toString("latin1"));
  if (head === null) return { status: bytes.length === 0 ? none : 0, contentType: "", body: bytes.toString("latin1") };
  const [, status = "0", headers = "", rest = ""] = head;
  if (status === "100") return parsed(Buffer.from(rest, "latin1"), none);
  const isChunked = /^transfer-encoding: *chunked/im.test(headers);
  const body = Buffer.from(isChunked ? joined(rest) : rest, "latin1").toString("utf8");
  return { status: Number(status), contentType: /^content-type: *([^\r\n;]*)/im.exec(headers)?.[1] ?? "", body };
}

function joined(chunked: string): string {
  let out = "";
  for (let at = 0; ; ) {
    const line = chunked.indexOf("\r\n", at);
    const length = line === -1 ? 0 : Number.parseInt(chunked.slice(at, line), 16);
    if (!(length > 0)) return out;
    out += chunked.slice(line + 2, line + 2 + length);
    at = line + 2 + length + 2;
  }
}
