// The workers `watch` and `dial` inside one PID 1.

import { chownSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { FilesWorker, OP } from "./files-worker.ts";
import { type Client, FLAG, REQUEST, type Running, TestGuest, u32 } from "./guest.ts";

const KINDS = ["", "create", "modify", "remove", "move-from", "move-to", "attrib"];
const [READY, EVENT, OVERFLOW, GONE, FAILED] = [64, 65, 66, 67, 68];
const ENOENT = 2;
const ENOTDIR = 20;
const ECONNREFUSED = 111;
const OUTSIDE_UID = 201_000;
let guest: TestGuest;
let client: Client;
let dir = "";

beforeAll(async () => {
  guest = new TestGuest();
  client = await guest.client();
});
afterAll(() => guest.end());
beforeEach(({ onTestFinished }) => {
  const made = mkdtempSync(join(tmpdir(), "corral-watched-"));
  chownSync(made, OUTSIDE_UID, OUTSIDE_UID);
  dir = made;
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
});

interface Told {
  readonly type: number;
  readonly text: string;
  readonly number: number;
}

class Watch {
  readonly running: Running;
  readonly #told: Told[] = [];
  #rest: Buffer = Buffer.alloc(0);
  #credited = 0;

  constructor(path: string, how = "recursive") {
    this.running = client.exec({ argv: ["watch", how, path], flags: FLAG.worker | FLAG.stdin, credit: false });
  }

  /** For what has come: who is not asked for more reads no more. */
  #giveCredit(): void {
    if (this.running.bytes > this.#credited) this.running.send(REQUEST.credit, u32(this.running.bytes - this.#credited));
    this.#credited = this.running.bytes;
  }

  get told(): Told[] {
    const bytes = Buffer.concat([this.#rest, ...this.running.out.splice(0)]);
    let at = 0;
    while (at + 12 <= bytes.length && at + 12 + bytes.readUInt32LE(at) <= bytes.length) {
      const [length, type] = [bytes.readUInt32LE(at), bytes.readUInt8(at + 8)];
      const body = bytes.subarray(at + 12, at + 12 + length);
      const kind = `${KINDS[body[0] ?? 0]}${body[1] === 1 ? "/" : ""}`;
      const text = type === EVENT ? `${kind} ${body.subarray(8).toString("latin1")}` : "";
      this.#told.push({ type, text, number: length === 4 ? body.readUInt32LE(0) : 0 });
      at += 12 + length;
    }
    this.#rest = bytes.subarray(at);
    return this.#told;
  }

  async until(enough: (told: readonly Told[]) => boolean): Promise<readonly Told[]> {
    while (!enough(this.told)) {
      this.#giveCredit();
      await this.running.changed();
    }
    return this.told;
  }

  async ready(): Promise<number> {
    return (await this.until((told) => told.length > 0))[0]?.number ?? 0;
  }

  /** Texts of the events up to one that makes the file `end` appear. */
  async texts(): Promise<string[]> {
    expect((await client.run("/bin/sh", "-c", `: > ${dir}/end`)).result.code).toBe(0);
    const all = await this.until((told) => told.some(({ text }) => text === "create end"));
    return all.filter(({ type }) => type === EVENT).map(({ text }) => text);
  }
}

const sh = async (script: string) => expect((await client.run("/bin/sh", "-c", `cd ${dir}; ${script}`)).result.code).toBe(0);

describe("watch", () => {
  verifies("guest/watch", "what is made, changed, moved and removed is told in order, below the directory too", async () => {
    await sh("mkdir -p a/b; : > a/b/f");
    const watch = new Watch(dir);
    expect(await watch.ready()).toBe(3);
    await sh("echo x >> a/b/f; chmod 600 a/b/f; mv a/b/f a/g; mv a/b c; : > c/h; rm a/g; rmdir a");
    expect(await watch.texts()).toEqual([
      ...["modify a/b/f", "attrib a/b/f", "move-from a/b/f", "move-to a/g", "move-from/ a/b", "move-to/ c", "create c/h", "remove a/g"],
      ...["remove/ a", "create end"],
    ]);
  });

  verifies("guest/watch", "a directory that is moved away is told no more, one that is moved in is", async () => {
    await sh("mkdir -p w/out in/deep");
    const watch = new Watch(`${dir}/w`);
    await watch.ready();
    await sh("mv w/out gone; : > gone/f; mv in w/in; : > w/in/deep/f; : > w/end");
    const told = await watch.until((all) => all.some(({ text }) => text === "create end"));
    const texts = told.map(({ text }) => text);
    expect(texts.filter((text) => text.includes("f") && !text.startsWith("move"))).toEqual(["create in/deep/f"]);
  });

  verifies("guest/watch", "what is made in a directory as soon as it is there is told, each once", async () => {
    const watch = new Watch(dir);
    await watch.ready();
    await sh("i=0; while [ $i -lt 100 ]; do mkdir -p d$i/e/g; : > d$i/e/g/f; i=$((i+1)); done");
    const made = (await watch.texts()).filter((text) => text.startsWith("create") && text !== "create end");
    const expected = Array.from({ length: 100 }, (_, i) => [
      `create/ d${i}`,
      `create/ d${i}/e`,
      `create/ d${i}/e/g`,
      `create d${i}/e/g/f`,
    ]).flat();
    expect(made.toSorted()).toEqual(expected.toSorted());
  });

  verifies("guest/watch", "a file that the worker `files` replaces was modified, a new one was made", async () => {
    const files = new FilesWorker(client);
    const watch = new Watch(dir);
    await watch.ready();
    await files.good(OP.put, { path: `${dir}/f`, data: "one" });
    await files.good(OP.put, { path: `${dir}/f`, data: "two" });
    expect(await watch.texts()).toEqual(["create f", "modify f", "create end"]);
  });

  verifies("guest/watch", "a flat watch tells of the directory alone, links are not followed", async () => {
    await sh("mkdir a real; ln -s /tmp link");
    const watch = new Watch(dir, "flat");
    expect(await watch.ready()).toBe(1);
    await sh(": > a/f; : > f");
    expect(await watch.texts()).toEqual(["create f", "create end"]);
    const deep = new Watch(dir);
    expect(await deep.ready()).toBe(3);
  });

  verifies(
    "guest/watch-overflow",
    "a reader that stops is told that events were lost, and then of what comes",
    async () => {
      const watch = new Watch(dir);
      await watch.ready();
      // More than the credit of the output, the pipe and the kernel's queue take together.
      await sh(`i=0; while [ $i -lt 25000 ]; do : > ${"x".repeat(200)}$i; i=$((i+1)); done; mkdir late`);
      await watch.until((told) => told.some(({ type }) => type === OVERFLOW));
      await sh(": > late/f");
      await watch.until((told) => told.some(({ text }) => text === "create late/f"));
    },
    60_000,
  );

  verifies("guest/watch", "what cannot be watched is told, and a directory that goes ends the watch", async () => {
    const failed = async (path: string) => (await new Watch(path).until((told) => told.length > 0))[0];
    expect(await failed(`${dir}/none`)).toMatchObject({ type: FAILED, number: ENOENT });
    expect(await failed("/etc/passwd")).toMatchObject({ type: FAILED, number: ENOTDIR });
    mkdirSync(join(dir, "w"));
    const watch = new Watch(`${dir}/w`);
    expect((await watch.until((told) => told.length > 0))[0]).toMatchObject({ type: READY });
    rmSync(join(dir, "w"), { recursive: true });
    await watch.until((told) => told.some(({ type }) => type === GONE));
    expect((await watch.running.exit).code).toBe(0);
    const left = new Watch(dir);
    await left.ready();
    left.running.send(REQUEST.stdinEof);
    expect((await left.running.exit).code).toBe(0);
  });
});

describe("dial", () => {
  const dial = (port: number | string) => client.exec({ argv: ["dial", String(port)], flags: FLAG.worker | FLAG.stdin });
  /** In the network namespace of this PID 1, which is this machine's here. */
  const listen = async (host: string, echo: boolean): Promise<number> => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      if (echo) socket.pipe(socket);
      else socket.on("end", () => socket.end("late answer")).resume();
    });
    await new Promise<void>((done) => server.listen(0, host, done));
    server.unref();
    return (server.address() as { port: number }).port;
  };

  verifies("guest/dial", "bytes go both ways, and each way ends by itself", async () => {
    const echo = dial(await listen("127.0.0.1", true));
    const bytes = Buffer.alloc(200_000, "bytes ");
    echo.send(REQUEST.stdin, bytes);
    while (echo.bytes < bytes.length) await echo.changed();
    expect(Buffer.concat(echo.out).equals(bytes)).toBe(true);
    echo.send(REQUEST.stdinEof);
    expect((await echo.exit).code).toBe(0);
    const late = dial(await listen("::1", false));
    late.send(REQUEST.stdin, Buffer.from("question"));
    late.send(REQUEST.stdinEof);
    expect([(await late.exit).code, late.text]).toEqual([0, "late answer"]);
  });

  verifies("guest/dial", "a port where nobody listens is refused, and what is no port too", async () => {
    expect((await dial(1).exit).code).toBe(ECONNREFUSED);
    for (const port of ["0", "65536", "x", "", "-1"]) expect((await dial(port).exit).code).toBe(22);
  });
});
