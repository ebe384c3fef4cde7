// A reader that takes nothing, over a real connection.

import { once } from "node:events";
import { type AddressInfo, connect } from "node:net";
import Fastify from "fastify";
import { expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import type { EventResource } from "../api/events.ts";
import { streamEvents } from "./event-stream.ts";

verifies("server/events-slow", "a reader that takes nothing is told why and let go", async () => {
  const ended = Promise.withResolvers<number>();
  let told = 0;
  async function* follow(): AsyncGenerator<EventResource> {
    try {
      for (;;) {
        told += 1;
        await Promise.resolve();
        yield { id: String(told), at: "", kind: "x", ownerId: "o", subjectId: "s", data: { text: "x".repeat(100_000) } };
      }
    } finally {
      ended.resolve(told);
    }
  }
  await using app = Fastify();
  app.get("/", async (request, reply) => {
    await streamEvents(follow, request, reply, 300);
    return reply;
  });
  await app.listen({ port: 0, host: "127.0.0.1" });
  const socket = connect((app.server.address() as AddressInfo).port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  socket.pause();
  expect(await ended.promise).toBeLessThan(1_000); // what the sockets of a machine hold, not all there is
  let last = "";
  socket.on("data", (chunk: Buffer) => (last = (last + chunk.toString("latin1")).slice(-500)));
  socket.resume();
  await once(socket, "close");
  expect(last).toContain("event: error");
  expect(last).toContain("overloaded");
});
