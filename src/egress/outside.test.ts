// The resolver and the dialler that are no fakes, against a DNS server and a listener of this test.

import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { parseAddress } from "./address.ts";
import { realOutside } from "./outside.ts";

const TTL_S = 77;
let server: UdpSocket;

/** Answers `two.test` with an address of either family, and `none.test` with none. */
function answer(query: Buffer): Buffer {
  const end = query.indexOf(0, 12) + 5;
  const question = query.subarray(12, end);
  const type = query.readUInt16BE(end - 4);
  const known = question.toString("latin1").includes("two");
  const data = type === 1 ? Buffer.from([203, 0, 113, 7]) : Buffer.from("20010db8000000000000000000000007", "hex");
  const record = Buffer.alloc(12);
  record.writeUInt16BE(0xc00c, 0);
  record.writeUInt16BE(type, 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt32BE(TTL_S, 6);
  record.writeUInt16BE(data.length, 10);
  const header = Buffer.from([0x81, 0x80, 0, 1, 0, known ? 1 : 0, 0, 0, 0, 0]);
  return Buffer.concat([query.subarray(0, 2), header, question, ...(known ? [record, data] : [])]);
}

beforeAll(async () => {
  server = createSocket("udp4");
  server.on("message", (query, { port, address }) => server.send(answer(query), port, address));
  await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", resolve));
});

afterAll(() => {
  server.close();
});

verifies("egress/pinned", "all addresses of a name are asked for, with the time that they hold", async () => {
  const outside = realOutside([`127.0.0.1:${server.address().port}`]);
  expect(await outside.resolve("two.test")).toEqual({ addresses: ["203.0.113.7", "2001:db8::7"], ttlMs: TTL_S * 1000 });
  expect((await outside.resolve("none.test")).addresses).toEqual([]);
});

verifies("egress/pinned", "a connection that is handed out stands with the address that was asked for", async () => {
  const listener = createServer((socket) => socket.on("error", () => socket.destroy()).end("hello"));
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  const address = parseAddress("127.0.0.1");
  if (address === undefined) throw new Error("no address");
  const outside = realOutside();
  const socket = await outside.dial({ address, port, timeoutMs: 5_000 });
  expect(socket.remoteAddress).toBe("127.0.0.1");
  socket.destroy();
  await new Promise((resolve) => listener.close(resolve));
  await expect(outside.dial({ address, port, timeoutMs: 5_000 })).rejects.toThrow("ECONNREFUSED");
  expect(outside.own().some(({ text }) => text === "127.0.0.1/32")).toBe(true);
});
