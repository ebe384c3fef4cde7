// What a terminal does with a client that asks for much and waits for nothing, over a real connection.

import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { expect } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { verifies } from "../../test/verifies.ts";
import { TERMINAL_INPUT_MESSAGES } from "../api/limits.ts";
import type { ProcessCalls } from "../api/processes.ts";
import type { OpenedTerminal } from "../service/terminals.ts";
import { serveTerminal } from "./terminal-socket.ts";

verifies("server/terminal-flood", "no more messages of a client are under way than a bound, of whatever kind", async () => {
  const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(sockets, "listening");
  const gate = Promise.withResolvers<void>();
  let under = 0;
  let most = 0;
  let done = 0;
  const act = async (): Promise<void> => {
    most = Math.max(most, (under += 1));
    await gate.promise;
    under -= 1;
    done += 1;
  };
  const calls = {
    signal: act,
    resize: act,
    write: act,
    async *output(_id: string, { signal }: { readonly signal: AbortSignal }) {
      await once(signal, "abort");
      yield* [];
    },
  } as unknown as ProcessCalls;
  const served = once(sockets, "connection").then(([socket]: WebSocket[]) =>
    serveTerminal(socket as WebSocket, { calls, process: { id: "p" }, from: 0 } as unknown as OpenedTerminal, "r"),
  );
  const client = new WebSocket(`ws://127.0.0.1:${(sockets.address() as AddressInfo).port}`);
  await once(client, "open");
  const count = 10 * TERMINAL_INPUT_MESSAGES;
  for (let n = 0; n < count; n++) {
    client.send(JSON.stringify({ type: "signal", signal: "SIGINT" }));
    client.send(JSON.stringify({ type: "resize", rows: 1, cols: 1 }));
    client.send(Buffer.alloc(0));
  }
  await expect.poll(() => most).toBeGreaterThan(TERMINAL_INPUT_MESSAGES / 2);
  gate.resolve();
  await expect.poll(() => done).toBe(3 * count); // and none is lost
  expect(most).toBeLessThan((3 * count) / 2); // the bound, and what had been read before it was met
  client.terminate();
  await served;
  sockets.close();
});
