// The HTTP or HTTPS server of Node.js below Fastify: its bounds on connections, headers and time, and its certificate.
// Not a router. Invariant: whoever is slow to ask, or opens and asks nothing, is cut off by a clock; more connections than configured are
// closed at once, so that strangers cost a bounded amount of memory.

import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerOptions, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import { createSecureContext } from "node:tls";
import { CorralError, ERROR_KINDS, type ErrorCode } from "../api/errors.ts";
import type { WireError } from "../api/server.ts";
import type { ServerConfig } from "../config/schema.ts";

export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** How often connections are looked at whose time is over, ms. */
const CHECK_MS = 1_000;

export function createListener(config: ServerConfig["http"], certificate: Certificate | undefined, handler: RequestListener): Server {
  const options: ServerOptions = {
    maxHeaderSize: config.headersBytes,
    headersTimeout: config.headersTimeoutMs,
    requestTimeout: Math.max(config.requestTimeoutMs, config.headersTimeoutMs),
    keepAliveTimeout: config.idleTimeoutMs,
    connectionsCheckingInterval: CHECK_MS,
    // What else asks to switch (HTTP/2, by habit) is answered in HTTP/1.1.
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === "websocket",
    // Strict: two Content-Lengths, bare line feeds and the like are refused, never mended.
    insecureHTTPParser: false,
    // The app refuses a request without one, as it refuses all else.
    requireHostHeader: false,
  };
  // Node.js types the two servers apart; every member that is used here is one of both.
  const server =
    certificate === undefined
      ? createServer(options, handler)
      : (createTlsServer({ ...options, ...certificate, handshakeTimeout: config.headersTimeoutMs }, handler) as unknown as Server);
  server.maxConnections = config.connections;
  server.on("checkExpectation", (_request: IncomingMessage, response: ServerResponse) => {
    answerUnmet(response);
  });
  return server;
}

/** Throws `tls_invalid`, told so that a person finds the file. */
export function readCertificate({ certFile, keyFile }: ServerConfig["tls"]): Certificate | undefined {
  if (certFile === null || keyFile === null) return undefined;
  const certificate = { cert: pem("tls.certFile", certFile), key: pem("tls.keyFile", keyFile) };
  try {
    createSecureContext(certificate);
  } catch (cause) {
    const { code = "unknown" } = cause as NodeJS.ErrnoException;
    const why = /KEY_VALUES_MISMATCH/.test(code)
      ? "the key is not that of the certificate"
      : `they are no certificate and key in PEM (${code})`;
    throw new CorralError("tls_invalid", `tls.certFile ${certFile} and tls.keyFile ${keyFile}: ${why}`, { cause });
  }
  return certificate;
}

function pem(key: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const { code = "unknown" } = cause as NodeJS.ErrnoException;
    throw new CorralError("tls_invalid", `${key}: ${path} cannot be read (${code})`, { cause });
  }
}

/** Of what Node.js refuses before there is a request. */
const PARSER_CODES: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  HPE_HEADER_OVERFLOW: ["request_too_large", "the headers of the request are larger than this server takes"],
  ERR_HTTP_REQUEST_TIMEOUT: ["request_timeout", "the request did not come in time"],
};

/** An `Expect` that is none of HTTP's: Node.js alone would answer a status that is in no table. */
function answerUnmet(response: ServerResponse): void {
  const message = "the request expects what this server does not know; 100-continue is all there is";
  const body = JSON.stringify({ error: { code: "request_invalid", message, requestId: "" } satisfies WireError });
  response
    .writeHead(ERROR_KINDS.request_invalid.status, { "content-type": "application/json; charset=utf-8", connection: "close" })
    .end(body);
}

/** Answers what is no HTTP, and ends the connection. */
export function answerBroken(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const [code, message] = PARSER_CODES[error.code ?? ""] ?? ["request_invalid", "the request is no HTTP/1.1"];
  const body = JSON.stringify({ error: { code, message, requestId: "" } satisfies WireError });
  const { status } = ERROR_KINDS[code];
  socket.end(
    `HTTP/1.1 ${status} Refused\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
