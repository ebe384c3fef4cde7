// Terminals over WebSockets, as a page in a browser has them: tickets, bytes both ways, control messages, and how each ends.

import { once } from "node:events";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect } from "vitest";
import { WebSocket } from "ws";
import type { SandboxHandle } from "../../src/api/client.ts";
import type { TerminalHears, TerminalSays, TerminalTicketBody } from "../../src/api/terminals.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { type ServerHere, startServerHere } from "../fixtures/server-here.ts";
import { verifies } from "../verifies.ts";

let server: ServerHere;
let sandbox: SandboxHandle;

beforeAll(async () => {
  server = await startServerHere({ origins: "https://app.example", "log.level": "debug" });
  sandbox = await server.admin.create({});
});
afterAll(() => server[Symbol.asyncDispose]());

interface Opened {
  readonly socket: WebSocket;
  /** All of stdout so far. */
  readonly out: () => string;
  readonly says: TerminalSays[];
  readonly closed: Promise<number>;
  readonly hear: (message: TerminalHears) => void;
}

const SIZE = { rows: 24, cols: 80 };

async function open(body: TerminalTicketBody, where = sandbox, at = server): Promise<Opened> {
  const { ticket } = await where.terminalTicket(body);
  const socket = new WebSocket(`${at.url.replace("http", "ws")}/v1/ws?ticket=${ticket}`);
  const parts: Buffer[] = [];
  const says: TerminalSays[] = [];
  socket.on("message", (data: Buffer, isBinary) => {
    if (isBinary) parts.push(data);
    else says.push(JSON.parse(data.toString()) as TerminalSays);
  });
  socket.on("error", () => undefined);
  const closed = once(socket, "close").then(([code]) => code as number);
  await once(socket, "open");
  return { socket, says, closed, out: () => Buffer.concat(parts).toString(), hear: (message) => socket.send(JSON.stringify(message)) };
}

/** The status with which a handshake was refused. */
async function refused(query: string, headers: Readonly<Record<string, string>> = {}): Promise<number> {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/ws${query}`, { headers });
  socket.on("error", () => undefined);
  const [, response] = (await once(socket, "unexpected-response")) as [unknown, { statusCode: number }];
  socket.terminate();
  return response.statusCode;
}

verifies(
  "server/terminal",
  "a ticket opens a terminal: keys go in, what it shows comes out, it is resized, and its end is told",
  async () => {
    const { socket, out, says, closed, hear } = await open({ terminal: { ...SIZE, env: { PS1: "ready> " } } });
    await expect.poll(out).toContain("ready>");
    expect(says[0]).toMatchObject({ type: "start", offset: 0, process: { pty: true, end: null } });
    hear({ type: "resize", rows: 30, cols: 101 });
    await expect
      .poll(
        () => {
          socket.send(Buffer.from("stty size; echo $TERM\n"));
          return out();
        },
        { interval: 300 },
      )
      .toContain("30 101\r\nxterm-256color");
    socket.send(Buffer.from("echo sl''eeps; sleep 1000\n"));
    await expect.poll(out).toContain("sleeps\r\n");
    socket.send(Buffer.from([3])); // Ctrl-C
    socket.send(Buffer.from("exit 7\n"));
    expect(await closed).toBe(1000);
    expect(says.at(-1)).toMatchObject({ type: "exit", process: { end: { exitCode: 7 } } });
  },
);

verifies(
  "server/terminal-ticket",
  "a ticket opens what it was asked for, once; without one, and from a foreign page, nothing is opened",
  async () => {
    const { ticket } = await sandbox.terminalTicket({ terminal: SIZE });
    expect(await refused("?ticket=ctwrong")).toBe(401);
    expect(await refused("")).toBe(400);
    expect(await refused(`?ticket=${ticket}`, { origin: "https://evil.example" })).toBe(403);
    const first = new WebSocket(`${server.url.replace("http", "ws")}/v1/ws?ticket=${ticket}`, {
      headers: { origin: "https://app.example" },
    });
    await once(first, "open");
    expect(await refused(`?ticket=${ticket}`)).toBe(401);
    first.terminate();
    expect(await refused(`?ticket=${(await sandbox.portTicket(3000)).ticket}`)).toBe(401);
    const plain = await fetch(`${server.url}/v1/ws?ticket=${(await sandbox.terminalTicket({ terminal: SIZE })).ticket}`);
    expect(plain.status).toBe(400);
    const bob = new Corral({ url: server.url, key: await server.keyOf("bob") });
    await expect(bob.sandbox(sandbox.id).terminalTicket({ terminal: SIZE })).rejects.toMatchObject({ code: "sandbox_not_found" });
    await expect(sandbox.terminalTicket({ process: "proc00000000000000000000" })).rejects.toMatchObject({ code: "process_not_found" });
  },
);

verifies(
  "server/terminal-attach",
  "a process goes on without its client, and the next one hears it from where the last one was",
  async () => {
    const { id } = await sandbox.processes.start({
      command: [
        "node",
        "-e",
        'process.stdin.on("data", (d) => { process.stdout.write("<" + d + ">"); process.stderr.write("!"); }).on("end", () => process.exit(5))',
      ],
      stdin: true,
    });
    const first = await open({ process: id });
    first.socket.send(Buffer.from("one"));
    await expect.poll(() => [first.out(), first.says.at(-1)]).toEqual(["<one>", { type: "stderr", data: "IQ==" }]);
    first.socket.terminate();
    await first.closed;
    await sandbox.processes.write(id, Buffer.from("two"));
    const second = await open({ process: id, from: "<one>!".length });
    await expect.poll(second.out).toBe("<two>");
    second.hear({ type: "end" });
    expect(await second.closed).toBe(1000);
    expect(second.says.at(-1)).toMatchObject({ type: "exit", process: { id, end: { exitCode: 5 } } });
  },
);

verifies("server/terminal-signal", "a signal reaches the process also behind input that it does not read", async () => {
  const { id } = await sandbox.processes.start({ command: ["sleep", "1000"], stdin: true });
  const { socket, says, closed, hear } = await open({ process: id });
  socket.send(Buffer.alloc(200_000));
  hear({ type: "signal", signal: "SIGNONE" });
  await expect.poll(() => says.at(-1)).toMatchObject({ type: "error", error: { code: "request_invalid" } });
  hear({ type: "signal", signal: "SIGTERM" });
  expect(await closed).toBe(1000);
  expect(says.at(-1)).toMatchObject({ type: "exit", process: { end: { signal: "SIGTERM" } } });
});

verifies(
  "server/terminal-pressure",
  "a client that reads nothing stops the program, and a program that reads nothing stops the client",
  async () => {
    const writer = await sandbox.processes.start({
      command: "while echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do :; done",
    });
    const slow = await open({ process: writer.id });
    await expect.poll(() => slow.out().length).toBeGreaterThan(0);
    slow.socket.pause();
    const written = async (): Promise<number> => (await sandbox.processes.get(writer.id)).output.to;
    let last = -1;
    await expect.poll(async () => last === (last = await written()), { interval: 500 }).toBe(true);
    slow.socket.terminate();
    await sandbox.processes.stop(writer.id);
    const deaf = await sandbox.processes.start({ command: ["sleep", "1000"], stdin: true });
    const fast = await open({ process: deaf.id });
    for (let n = 0; n < 160; n++) fast.socket.send(Buffer.alloc(100_000));
    let left = -1;
    await expect.poll(() => left === (left = fast.socket.bufferedAmount), { interval: 500 }).toBe(true);
    expect(left).toBeGreaterThan(4_000_000);
    fast.socket.terminate();
    await sandbox.processes.stop(deaf.id);
  },
);

verifies(
  "server/terminal-ends",
  "a terminal ends with its key, at a message that is none, and with the server, each told by its code",
  async () => {
    const { id, secret } = await server.admin.tokens.issue({ ownerId: "ann", scope: "user", name: "short" });
    const own = await new Corral({ url: server.url, key: secret }).create({});
    const cut = await open({ terminal: SIZE }, own);
    await server.admin.tokens.revoke(id, { ownerId: "ann" });
    expect(await cut.closed).toBe(1006);
    const { process } = (await open({ terminal: SIZE })).says[0] as { readonly process: { readonly id: string } };
    const broken = await open({ process: process.id });
    const ended = (): number => server.lines.filter((line) => line.includes('"/v1/ws"')).length;
    const before = ended();
    (Reflect.get(broken.socket, "_socket") as Socket).resetAndDestroy();
    await expect.poll(ended).toBe(before + 1);
    expect(server.lines.filter((line) => line.includes("defect"))).toEqual([]);
    for (const message of ["{", '{"type":"resize"}', '{"type":"exec"}', '{"type":"end","x":1}']) {
      const wrong = await open({ terminal: SIZE });
      wrong.socket.send(message);
      expect(await wrong.closed, message).toBe(1008);
    }
    const large = await open({ terminal: SIZE });
    large.socket.send(Buffer.alloc(300_000));
    expect(await large.closed).toBe(1009);
    const other = await startServerHere();
    const last = await open({ terminal: SIZE }, await other.admin.create({}), other);
    await other[Symbol.asyncDispose]();
    expect(await last.closed).toBe(1001);
  },
);
