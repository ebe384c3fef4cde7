// Requests that ask for an upgrade and get none, and what is left of their connections.

import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { it } from "vitest";
import { Upgrades } from "./upgrade.ts";

const ASK = "POST /no/such/route HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 70000\r\n\r\n";

it("a refused upgrade whose client goes on sending leaves no connection, so that the server can end", async () => {
  const server = createServer();
  const upgrades = new Upgrades();
  upgrades.attach(server, (_request, response) => {
    response.statusCode = 404;
    response.end("no");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
  client.on("error", () => undefined);
  client.write(ASK + "x".repeat(70_000));
  await once(client, "data");
  const ended = new Promise((resolve) => server.close(resolve));
  client.write("x".repeat(70_000));
  await ended;
  client.destroy();
});

it("one that is answered slowly is cut when all are", async () => {
  const server = createServer();
  const upgrades = new Upgrades();
  const asked = Promise.withResolvers<void>();
  upgrades.attach(server, () => asked.resolve());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  client.on("error", () => undefined);
  client.write(ASK);
  await asked.promise;
  const ended = new Promise((resolve) => server.close(resolve));
  upgrades.destroyAll();
  await ended;
  client.destroy();
});
