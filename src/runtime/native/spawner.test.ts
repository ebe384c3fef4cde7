import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { guestProgram } from "../../../guest/test/build.ts";
import { FrameReader, FrameWriter, records, SPAWNER } from "./frames.ts";
import { Spawner } from "./spawner.ts";

const state: { dir: string; open: Spawner[] } = { dir: "", open: [] };

beforeAll(() => {
  state.dir = mkdtempSync(join(tmpdir(), "corral-sp-"));
});
afterEach(async () => {
  await Promise.all(state.open.splice(0).map((spawner) => spawner.close()));
});
afterAll(() => {
  rmSync(state.dir, { recursive: true, force: true });
});

const ROOT = process.geteuid?.() === 0;
const NOT_ROOT = "the spawner as root needs root; rootless.test.ts runs it without";

async function open(changes: { guestBinary?: string } = {}): Promise<{ spawner: Spawner; lost: string[] }> {
  const lost: string[] = [];
  const events = { onDied: () => undefined, onLost: (_: Spawner, reason: string) => void lost.push(reason) };
  const spawner = Spawner.start({ guestBinary: guestProgram(), ...changes }, events);
  state.open.push(spawner);
  await spawner.configure([]);
  return { spawner, lost };
}

async function text(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const list: Uint8Array[] = [];
  for await (const chunk of chunks) list.push(chunk);
  return Buffer.concat(list).toString();
}

describe("the spawner", () => {
  it("tells its version and the kernel's, and takes only one configuration", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    const { spawner } = await open();
    await expect(spawner.configure([])).rejects.toMatchObject({ code: "create_failed" });
    const second = await open();
    expect(second.spawner.pid).not.toBe(spawner.pid);
  });

  it("says why it cannot start", async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const events = { onDied: () => undefined, onLost: (_: Spawner, reason: string) => resolve(reason) };
    const spawner = Spawner.start({ guestBinary: "/no/such/program" }, events);
    await expect(spawner.configure([])).rejects.toMatchObject({ code: "spawner_lost" });
    expect(await promise).toMatch(/could not be started/);
    await spawner.close();
  });

  it("refuses requests that are malformed, and goes on", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    const { spawner } = await open();
    const bad = [
      [["nonsense", "x"]],
      [["id", "UPPER"]],
      [["id", "ok"]],
      [
        ["id", "ok"],
        ["socket", "relative"],
        ["hostname", "h"],
      ],
      [
        ["id", "ok"],
        ["socket", "/tmp/../x"],
        ["hostname", "h"],
      ],
      [
        ["id", "ok"],
        ["socket", "/tmp/x"],
        ["hostname", "h"],
        ["idmap", "0", "0", "65536"],
        ["user", "0", "0"],
        ["bind", "/", "/", "1", "1"],
      ],
      [
        ["id", "ok"],
        ["socket", "/tmp/x"],
        ["hostname", "h"],
        ["idmap", "0", "9999", "10"],
        ["user", "0", "0"],
        ["tmpfs", "/", "1", "1", "0", "0"],
      ],
      [
        ["id", "ok"],
        ["socket", "/tmp/x"],
        ["hostname", "h"],
        ["idmap", "0", "9999", "10"],
        ["user", "0", "0"],
        ["weaken", "5"],
        ["bind", "/", "/", "1", "1"],
      ],
    ];
    for (const list of bad) await expect(spawner.create(list)).rejects.toMatchObject({ code: "create_failed" });
    await expect(spawner.stats("none")).rejects.toMatchObject({ code: "sandbox_lost" });
    await spawner.destroy("none", []);
  });

  it("leaves when its client breaks the protocol, and when it closes", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    for (const bytes of [
      Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0, 0, 0]),
      Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, SPAWNER.create, 0, 0, 0]),
      Buffer.alloc(0),
    ]) {
      const child = spawn(guestProgram(), ["spawner", "--fd", "3"], { stdio: ["ignore", "ignore", "ignore", "pipe"], env: {} });
      const socket = child.stdio[3] as Socket;
      socket.on("error", () => undefined);
      if (bytes.length > 0) socket.write(bytes);
      else socket.end();
      const code = await new Promise((resolve) => child.on("exit", resolve));
      expect(code).toBe(0);
    }
  });
});

describe("a tool", () => {
  it("ends with its own message when it fails, and says so for a name that is none", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    const { spawner } = await open();
    const run = spawner.tool(["no-such-tool"]);
    expect(await text(run.stdout)).toBe("");
    await expect(run.done).rejects.toThrow("there is no such tool");
    await expect(spawner.tool(["remove", "relative"]).done).rejects.toThrow("wants one absolute path");
  });

  it("removes a tree of any depth, mode and name without following a link", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    const { spawner } = await open();
    const tree = join(state.dir, "tree");
    const outside = join(state.dir, "outside");
    mkdirSync(join(tree, "a/b"), { recursive: true });
    mkdirSync(outside);
    writeFileSync(join(outside, "kept"), "x");
    symlinkSync(outside, join(tree, "a/link"));
    symlinkSync("..", join(tree, "a/up"));
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/a/`), Buffer.from([0xff, 0x0a, 0x01])]), "x");
    for (let n = 0; n < 300; n++) writeFileSync(join(tree, `f${n}`), "");
    // Deeper than a path can be: made by going down.
    const here = process.cwd();
    process.chdir(tree);
    for (let depth = 0; depth < 500; depth++) {
      mkdirSync("deepdeepdeep");
      process.chdir("deepdeepdeep");
    }
    process.chdir(here);
    chmodSync(join(tree, "a/b"), 0);
    const run = spawner.tool(["remove", tree]);
    await run.done;
    expect(existsSync(tree)).toBe(false);
    expect(existsSync(join(outside, "kept"))).toBe(true);
    await spawner.tool(["remove", tree]).done; // absent is removed
  });

  it("streams what it reads and is given, both bounded", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    const { spawner } = await open();
    const run = spawner.tool(["walk", "/usr/share"]);
    let bytes = 0;
    for await (const chunk of run.stdout) bytes += chunk.length;
    await run.done;
    expect(bytes).toBeGreaterThan(64 * 1024);
  });

  it("is ended by kill, also while nobody reads it", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    const { spawner } = await open();
    const run = spawner.tool(["walk", "/"]);
    run.kill();
    await expect(run.done).rejects.toThrow();
    await text(run.stdout);
  });

  it("is refused when the spawner is gone, and told when it goes meanwhile", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    const { spawner, lost } = await open();
    const run = spawner.tool(["walk", "/"]);
    process.kill(spawner.pid, "SIGKILL");
    await expect(run.done).rejects.toMatchObject({ code: "spawner_lost" });
    expect(lost.length).toBe(1);
    expect(() => spawner.tool(["walk", "/"])).toThrow(expect.objectContaining({ code: "spawner_lost" }));
  });
});

describe("the control socket", () => {
  it("bounds a tool's stdin by its window", async (context) => {
    if (!ROOT) context.skip(NOT_ROOT);
    const child = spawn(guestProgram(), ["spawner", "--fd", "3"], { stdio: ["ignore", "ignore", "ignore", "pipe"], env: {} });
    const socket = child.stdio[3] as Socket;
    socket.on("error", () => undefined);
    const writer = new FrameWriter(socket);
    const reader = new FrameReader(() => undefined);
    socket.on("data", (chunk: Buffer) => reader.push(chunk, chunk.length));
    writer.send(SPAWNER.configure, 1, records([]));
    writer.send(
      SPAWNER.tool,
      2,
      records([
        ["arg", "walk"],
        ["arg", "/"],
      ]),
    );
    // walk reads no stdin: the pipe and the window fill, and one byte more is the end.
    for (let n = 0; n < 6; n++) writer.send(SPAWNER.toolIn, 2, Buffer.alloc(64 * 1024));
    const code = await new Promise((resolve) => child.on("exit", resolve));
    expect(code).toBe(0);
  });
});
