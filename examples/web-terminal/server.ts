// A terminal in a browser, into a sandbox that lives as long as this program. The key stays here: the page gets one-time tickets.
//
//   node examples/web-terminal/server.ts
//
// CORRAL_URL, CORRAL_KEY: a Corral server that was started with `--origin` of this page. PORT: of the page, default 8080.
// Whoever reaches the page gets a terminal, so it listens on the loopback; a real one asks who is there before it hands out a ticket.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { stripTypeScriptTypes } from "node:module";
import { fileURLToPath } from "node:url";
import { Corral } from "corral";
import type { Wanted } from "./terminal.ts";

const { CORRAL_URL = "http://127.0.0.1:4700", CORRAL_KEY = "", PORT = "8080" } = process.env;
const ORIGIN = `http://127.0.0.1:${PORT}`;
const MAX_ASKED_BYTES = 1_000;
const corral = new Corral({ url: CORRAL_URL, key: CORRAL_KEY });
await using sandbox = await corral.create({ timeoutMs: 3_600_000 });
const sockets = `${CORRAL_URL.replace(/^http/, "ws")}/v1/ws`;

function own(name: string): string {
  return readFileSync(new URL(name, import.meta.url), "utf8");
}

function ofXterm(name: string): string {
  return readFileSync(fileURLToPath(import.meta.resolve(`@xterm/xterm/${name}`)), "utf8");
}

const FILES = new Map([
  ["/", ["text/html", own("page.html")]],
  ["/page.ts", ["text/javascript", stripTypeScriptTypes(own("page.ts"))]],
  ["/terminal.ts", ["text/javascript", stripTypeScriptTypes(own("terminal.ts"))]],
  ["/xterm.mjs", ["text/javascript", ofXterm("lib/xterm.mjs")]],
  ["/xterm.css", ["text/css", ofXterm("css/xterm.css")]],
]);
// xterm.js writes styles of its own; scripts come from here alone, connections go here and to the terminals.
const POLICY = `default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' ${new URL(sockets).origin}; frame-ancestors 'none'`;

async function text(request: IncomingMessage): Promise<string> {
  let asked = "";
  for await (const chunk of request) {
    asked += String(chunk);
    if (asked.length > MAX_ASKED_BYTES) throw new Error("too much was asked");
  }
  return asked;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method, url = "", headers } = request;
  // Another site's page may send its visitors' browsers here, also under a name of its own.
  if (headers.host !== new URL(ORIGIN).host || (headers.origin ?? ORIGIN) !== ORIGIN) {
    response.writeHead(403).end("not from here");
  } else if (method === "POST" && url === "/ticket") {
    const wanted = JSON.parse(await text(request)) as Wanted;
    const { ticket } = await sandbox.terminalTicket("process" in wanted ? wanted : { terminal: wanted });
    response.writeHead(200, { "content-type": "text/plain", "cache-control": "no-store" }).end(`${sockets}?ticket=${ticket}`);
  } else {
    const [type = "", content = ""] = FILES.get(url) ?? [];
    if (type === "") response.writeHead(404).end();
    else response.writeHead(200, { "content-type": `${type}; charset=utf-8`, "content-security-policy": POLICY }).end(content);
  }
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) => response.writeHead(400).end(error instanceof Error ? error.message : "refused"));
});
server.listen(Number(PORT), "127.0.0.1");
await once(server, "listening");
console.log(`open ${ORIGIN}`);
await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
server.close();
server.closeAllConnections();
