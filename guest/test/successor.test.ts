// The listening socket of a server's spawner, met by raw frames: who is taken as its client, who is not, what a lost client leaves.
// What becomes of sandboxes is in src/runtime/native/adoption.test.ts. Invariant: each spawner of a test ends with it.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Frame, FrameReader, FrameWriter, records, SPAWNER, strings } from "../../src/runtime/native/frames.ts";
import { verifies } from "../../test/verifies.ts";
import { guestProgram } from "./build.ts";

const state: { dir: string; children: ChildProcess[] } = { dir: "", children: [] };
const ROOT = process.geteuid?.() === 0;
const NOT_ROOT = "the spawner as root needs root";
/** Long enough for a busy machine, and for no test to see its end by accident. */
const LONG_MS = 30_000;

beforeEach((context) => {
  state.dir = mkdtempSync(join(tmpdir(), "corral-su-"));
  if (!ROOT) context.skip(NOT_ROOT);
});
afterEach(async () => {
  for (const child of state.children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }
  rmSync(state.dir, { recursive: true, force: true });
});

interface Answer {
  readonly type: number;
  readonly id: number;
  readonly strings: readonly string[];
}

/** One end of a connection to a spawner. */
class Peer {
  readonly closed: Promise<void>;
  readonly answers: Answer[] = [];
  readonly #socket: Socket;
  readonly #writer: FrameWriter;
  #heard: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#writer = new FrameWriter(socket);
    this.closed = new Promise((resolve) => socket.on("close", () => resolve()));
    const reader = new FrameReader((frame) => this.#take(frame));
    socket.on("data", (chunk: Buffer) => reader.push(chunk, chunk.length));
    socket.on("error", () => socket.destroy());
  }

  #take(frame: Frame): void {
    const { type, id, buffer, start, end } = frame;
    const text = end > start && buffer[end - 1] === 0 && type === SPAWNER.ok ? strings(frame) : [];
    this.answers.push({ type, id, strings: text });
    this.#heard();
  }

  send(type: number, id: number, list: readonly (readonly string[])[] = []): void {
    this.#writer.send(type, id, records(list));
  }

  raw(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  /** The answer to a request. Throws when the connection closes instead. */
  async answer(id: number): Promise<Answer> {
    const refused = this.closed.then(() => Promise.reject(new Error("the spawner closed the connection")));
    refused.catch(() => undefined);
    for (;;) {
      const found = this.answers.find((one) => one.id === id);
      if (found !== undefined) return found;
      await Promise.race([new Promise<void>((resolve) => (this.#heard = resolve)), refused]);
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}

interface Server {
  readonly child: ChildProcess;
  readonly first: Peer;
  readonly path: string;
  readonly exit: Promise<unknown>;
  stderr: string;
}

async function serve(words: readonly string[] = ["--wait-ms", String(LONG_MS)], path = join(state.dir, "sp")): Promise<Server> {
  const child = spawn(guestProgram(), ["spawner", "--fd", "3", "--listen", path, ...words], {
    stdio: ["ignore", "ignore", "pipe", "pipe"],
    env: {},
  });
  state.children.push(child);
  const server: Server = {
    child,
    path,
    first: new Peer(child.stdio[3] as Socket),
    exit: once(child, "exit").then(([code]: unknown[]) => code),
    stderr: "",
  };
  child.stderr?.on("data", (chunk: Buffer) => (server.stderr += chunk.toString()));
  server.first.send(SPAWNER.configure, 1, [["mark", "00ff"]]);
  await server.first.answer(1);
  return server;
}

function knock(path: string): Peer {
  return new Peer(connect(path));
}

/** A successor that was taken. */
async function succeed(server: Server): Promise<Peer> {
  const peer = knock(server.path);
  peer.send(SPAWNER.adopt, 1);
  expect((await peer.answer(1)).type).toBe(SPAWNER.ok);
  return peer;
}

function field(answer: Answer, name: string): string | undefined {
  return answer.strings[answer.strings.indexOf(name) + 1];
}

describe("a spawner with --listen", () => {
  verifies("guest/successor", "is private, waits for a successor, tells it who it is, and serves it as it did the first", async () => {
    const server = await serve();
    expect(statSync(server.path).mode & 0o777).toBe(0o600);
    server.first.close();
    const peer = await succeed(server);
    const facts = await peer.answer(1);
    expect([field(facts, "pid"), field(facts, "mark")]).toEqual([String(server.child.pid), "00ff"]);
    expect(facts.strings).toEqual(expect.arrayContaining(["version", "landlock", "kernel"]));
    peer.send(SPAWNER.destroy, 2, [["id", "sbnone"]]);
    expect((await peer.answer(2)).type).toBe(SPAWNER.ok);
    peer.close();
    const third = await succeed(server);
    third.send(SPAWNER.end, 2);
    expect(await server.exit).toBe(0);
    expect(existsSync(server.path)).toBe(false);
  });

  verifies("guest/successor", "ends by itself when no successor comes, at SIGTERM, and when it was never configured", async () => {
    const short = await serve(["--wait-ms", "50"]);
    short.first.close();
    expect(await short.exit).toBe(0);
    expect(existsSync(short.path)).toBe(false);
    const long = await serve();
    long.first.close();
    long.child.kill("SIGTERM");
    expect(await long.exit).toBe(0);
    const child = spawn(guestProgram(), ["spawner", "--fd", "3", "--listen", long.path, "--wait-ms", String(LONG_MS)], {
      stdio: ["ignore", "ignore", "ignore", "pipe"],
      env: {},
    });
    (child.stdio[3] as Socket).destroy();
    expect(await once(child, "exit")).toEqual([0, null]);
    expect(existsSync(long.path)).toBe(false);
  });

  verifies("guest/successor-alone", "takes no second client, and the next one as soon as the first has closed", async () => {
    const server = await serve();
    for (let n = 0; n < 3; n++) {
      const second = knock(server.path);
      second.send(SPAWNER.adopt, 1);
      await second.closed;
      expect(second.answers).toEqual([]);
    }
    server.first.send(SPAWNER.destroy, 2, [["id", "sbnone"]]);
    expect((await server.first.answer(2)).type).toBe(SPAWNER.ok);
    let client = server.first;
    for (let n = 0; n < 50; n++) {
      // In one turn: the kernel has closed the one before the spawner hears of the other.
      client.close();
      client = await succeed(server);
    }
  });

  verifies("guest/successor-alone", "closes a peer of another user, whatever the mode of its socket", async (context) => {
    const server = await serve();
    server.first.close();
    chmodSync(state.dir, 0o755);
    chmodSync(server.path, 0o666);
    const script = `const s = require("node:net").connect(${JSON.stringify(server.path)});
      s.on("connect", () => s.write(Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, ${SPAWNER.adopt}, 0, 0, 0])));
      s.on("error", (error) => console.log(error.code)); let n = 0; s.on("data", (d) => (n += d.length)); s.on("close", () => console.log(n));`;
    const words = ["--reuid", "64321", "--regid", "64321", "--clear-groups", process.execPath, "-e", script];
    const said = await promisify(execFile)("setpriv", words, { cwd: "/", env: {} }).catch((error: Error) => error);
    if (said instanceof Error) return context.skip(`another user cannot run this Node.js: ${said.message.slice(0, 200)}`);
    expect(said.stdout.trim().split("\n").at(-1)).toBe("0");
    await succeed(server);
  });

  verifies("guest/successor-alone", "closes who begins with anything but ADOPT, or with nothing, and waits on", async () => {
    const server = await serve();
    server.first.close();
    const garbage = [
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      Buffer.alloc(4096, 0xff),
      Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, SPAWNER.destroy, 0, 0, 0]),
      Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, SPAWNER.end, 0, 0, 0]),
      Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, SPAWNER.configure, 0, 0, 0]),
      Buffer.from([1, 0, 0, 0, 1, 0, 0, 0, SPAWNER.adopt, 0, 0, 0, 0]), // with a body
      Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, SPAWNER.adopt, 0, 0, 1]), // a broken head
    ];
    for (const bytes of garbage) {
      const peer = knock(server.path);
      peer.raw(bytes);
      await peer.closed;
      expect(peer.answers).toEqual([]);
    }
    const silent = knock(server.path);
    await silent.closed;
    const client = await succeed(server);
    client.send(SPAWNER.adopt, 2); // once is enough
    await client.closed;
    await succeed(server);
  });

  it("waits no longer because somebody knocks", async () => {
    const server = await serve(["--wait-ms", "300"]);
    server.first.close();
    while (server.child.exitCode === null) {
      const peer = knock(server.path);
      peer.raw(Buffer.from("x".repeat(64)));
      await Promise.race([peer.closed, sleep(50)]);
      peer.close();
    }
    expect(await server.exit).toBe(0);
  });

  verifies("guest/successor-stale", "replaces a socket that nobody listens on, and nothing else", async () => {
    const path = join(state.dir, "stale");
    const dead = await serve(undefined, path);
    dead.child.kill("SIGKILL");
    await dead.exit;
    expect(existsSync(path)).toBe(true);
    const next = await serve(undefined, path);
    const refused = async (at: string): Promise<string> => {
      const child = spawn(guestProgram(), ["spawner", "--fd", "3", "--listen", at], {
        stdio: ["ignore", "ignore", "pipe", "pipe"],
        env: {},
      });
      (child.stdio[3] as Socket).on("error", () => undefined);
      let stderr = "";
      child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
      expect(await once(child, "close")).toEqual([1, null]);
      return stderr;
    };
    expect(await refused(path)).toMatch(/[Aa]ddress.* in use/);
    next.first.close();
    await succeed(next);
    writeFileSync(join(state.dir, "file"), "kept");
    expect(await refused(join(state.dir, "file"))).toMatch(/exists/);
    expect(readFileSync(join(state.dir, "file"), "utf8")).toBe("kept");
    symlinkSync(path, join(state.dir, "link"));
    expect(await refused(join(state.dir, "link"))).toMatch(/exists/);
    const other = createServer().listen(join(state.dir, "other"));
    await once(other, "listening");
    expect(await refused(join(state.dir, "other"))).toMatch(/in use/);
    other.close();
  });

  verifies(
    "guest/successor-answers",
    "gives a successor no answer to what another asked, kills its tools and ends what it destroyed",
    async () => {
      const server = await serve();
      const tree = join(state.dir, "tree");
      const more = join(state.dir, "more");
      for (const [top, count] of [
        [tree, 4_000],
        [more, 100],
      ] as const) {
        mkdirSync(top);
        for (let n = 0; n < count; n++) writeFileSync(join(top, String(n)), "");
      }
      server.first.send(SPAWNER.tool, 7, [
        ["arg", "walk"],
        ["arg", "/"],
      ]);
      server.first.send(SPAWNER.destroy, 8, [
        ["id", "sbgone"],
        ["scrub", tree],
      ]);
      // When this is answered, the two before it have begun.
      server.first.send(SPAWNER.destroy, 9, [["id", "sbnone"]]);
      await server.first.answer(9);
      server.first.close();
      const peer = await succeed(server);
      // The same numbers as those of the lost client.
      peer.send(SPAWNER.destroy, 8, [
        ["id", "sbgone"],
        ["scrub", tree],
        ["scrub", more],
      ]);
      peer.send(SPAWNER.tool, 7, [["arg", "no-such-tool"]]);
      expect((await peer.answer(8)).type).toBe(SPAWNER.ok);
      expect([existsSync(tree), existsSync(more)]).toEqual([false, false]);
      expect((await peer.answer(7)).type).toBe(SPAWNER.toolEnd);
      const children = (): string => readFileSync(`/proc/${server.child.pid}/task/${server.child.pid}/children`, "latin1").trim();
      await expect.poll(children).toBe("");
      peer.send(SPAWNER.destroy, 10, [["id", "sbnone"]]);
      await peer.answer(10);
      expect(peer.answers.map(({ id }) => id).sort((a, b) => a - b)).toEqual([1, 7, 8, 10]);
    },
  );
});
