// MCP over stdin and stdout, for one client that started this process. Invariant: when its client is gone (stdin ends, or the process is
// asked to end) the sandbox is taken away before the process ends; nothing but the protocol is written to stdout.

import { once } from "node:events";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import type { Client } from "../api/client.ts";
import { mcpServerOf } from "./server.ts";
import { McpSession, type McpSettings } from "./session.ts";

export interface StdioRequest {
  readonly client: Client;
  readonly settings: McpSettings;
  readonly version: string;
  /** The process was asked to end. */
  readonly signal: AbortSignal;
  /** What the protocol has no words for, such as a line that is no JSON. */
  readonly onError: (error: Error) => void;
}

/** Resolves when the client is gone and its sandbox with it. */
export async function serveMcpStdio({ client, settings, version, signal, onError }: StdioRequest): Promise<void> {
  await using session = new McpSession(client, settings);
  // One for the connection, or two where the client first asks what is spoken here: both stand over the one session.
  const handle = serveStdio(() => mcpServerOf(session, version), { onerror: onError });
  const gone = new AbortController();
  // A client that reads no more is told in the race below; every further answer would fail again.
  process.stdout.on("error", () => undefined);
  try {
    await Promise.race([
      once(process.stdin, "end", { signal: gone.signal }),
      once(process.stdin, "close", { signal: gone.signal }),
      once(process.stdout, "error", { signal: gone.signal }),
      aborted(signal, gone.signal),
    ]);
  } finally {
    gone.abort();
    await handle.close();
  }
}

async function aborted(signal: AbortSignal, gone: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort", { signal: gone });
}
