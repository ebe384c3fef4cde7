// Files of a sandbox against workers that lie, die or say nothing, and against a real one that is killed under it.
// What users do with files is the client suite's (test/conformance/client/files.ts).

import { afterAll, beforeAll, describe, expect } from "vitest";
import { type NativeLab, openNativeLab, output } from "../../../test/fixtures/native-lab.ts";
import { verifies } from "../../../test/verifies.ts";
import { errorCode } from "../../api/errors.ts";
import type { Container, GuestExec, GuestProcess } from "../../runtime/runtime.ts";
import { LocalFiles } from "./files.ts";

const PAGE = 4;

/** A container whose worker answers each request with the bytes that `lie` makes of its id. */
function lying(lie: (id: number, op: number) => readonly Buffer[]): {
  readonly container: Container;
  readonly workers: { killed: boolean }[];
} {
  const workers: { killed: boolean }[] = [];
  const exec = (request: GuestExec): GuestProcess => {
    const worker = { killed: false };
    workers.push(worker);
    return {
      id: 1,
      write: (chunk) => {
        const bytes = Buffer.from(chunk);
        const answers = lie(bytes.readUInt32LE(4), bytes.readUInt32LE(8));
        queueMicrotask(() => {
          for (const answer of answers) request.onOutput("stdout", answer);
        });
        return Promise.resolve();
      },
      closeStdin: () => undefined,
      restartStdin: () => undefined,
      control: () => Promise.resolve(),
      credit: () => undefined,
      signal: () => {
        worker.killed = true;
      },
      stop: () => undefined,
      resize: () => undefined,
    };
  };
  return { container: { exec } as Partial<Container> as Container, workers };
}

function filesOf(container: Container): LocalFiles {
  return new LocalFiles({ container, refusal: () => undefined, guard: () => () => undefined, over: () => undefined });
}

function frame(type: number, id: number, ...body: readonly Buffer[]): Buffer {
  const payload = Buffer.concat(body);
  const head = Buffer.alloc(12);
  head.writeUInt32LE(payload.length, 0);
  head.writeUInt32LE(id, 4);
  head.writeUInt8(type, 8);
  return Buffer.concat([head, payload]);
}

function entry(changes: { kind?: number; name?: string; target?: string; size?: bigint; mode?: number } = {}): Buffer {
  const { kind = 0, name = "", target = "", size = 3n, mode = 0o644 } = changes;
  const head = Buffer.alloc(48);
  head.writeUInt8(kind, 0);
  head.writeUInt16LE(Buffer.byteLength(name, "latin1"), 2);
  head.writeUInt16LE(Buffer.byteLength(target, "latin1"), 4);
  head.writeUInt32LE(mode, 8);
  head.writeBigInt64LE(size, 24);
  return Buffer.concat([head, Buffer.from(name + target, "latin1")]);
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value, 0);
  return bytes;
};
const codeOf = (call: Promise<unknown>): Promise<unknown> => call.then((value) => value, errorCode);
const OK = 64;

describe("a worker that lies", () => {
  const stat = (files: LocalFiles) => files.stat("/f");
  const list = (files: LocalFiles) => files.list("/d", { limit: PAGE });
  const read = (files: LocalFiles) => files.read("/f", { length: 3 });
  const names = (...all: string[]) => Buffer.concat([Buffer.from([0]), ...all.map((name) => entry({ name }))]);
  const lies: Readonly<Record<string, readonly [(files: LocalFiles) => Promise<unknown>, (id: number) => readonly Buffer[]]>> = {
    "another id": [stat, (id) => [frame(OK, id + 1, entry())]],
    "an unknown frame": [stat, (id) => [frame(66, id, entry())]],
    "no frame": [stat, () => [Buffer.alloc(64, 0xff)]],
    "too short an entry": [stat, (id) => [frame(OK, id, entry().subarray(0, 40))]],
    "an unknown kind": [stat, (id) => [frame(OK, id, entry({ kind: 9 }))]],
    "a negative size": [stat, (id) => [frame(OK, id, entry({ size: -1n }))]],
    "a mode of too many bits": [stat, (id) => [frame(OK, id, entry({ mode: 0o170644 }))]],
    "a name where none is": [stat, (id) => [frame(OK, id, entry({ name: "x" }))]],
    "a target of a file": [stat, (id) => [frame(OK, id, entry({ target: "x" }))]],
    "attributes cut short": [stat, (id) => [frame(OK, id, entry(), Buffer.from([9, 0, 9, 0, 0, 0]))]],
    "a name that leads up": [list, (id) => [frame(OK, id, names(".."))]],
    "a name with a slash": [list, (id) => [frame(OK, id, names("a/b"))]],
    "names out of order": [list, (id) => [frame(OK, id, names("b", "a"))]],
    "a name twice": [list, (id) => [frame(OK, id, names("a", "a"))]],
    "too many names": [list, (id) => [frame(OK, id, names("a", "b", "c", "d", "e"))]],
    "a page without an end": [list, (id) => [frame(OK, id, Buffer.from([1]))]],
    "too many bytes": [read, (id) => [frame(OK, id, entry(), u32(0), Buffer.from("more"))]],
    "an errno cut short": [stat, (id) => [frame(65, id, Buffer.alloc(3))]],
    "two answers": [stat, (id) => [frame(OK, id), frame(OK, id, entry())]],
  };
  for (const [what, [call, lie]] of Object.entries(lies))
    verifies("files/hostile-worker", `${what} ends that worker, the call fails, the next one has a new worker`, async () => {
      let honest = false;
      const { container, workers } = lying((id, op) => (honest ? [frame(OK, id, op === 2 ? names("a") : entry())] : lie(id)));
      const files = filesOf(container);
      expect(await codeOf(call(files))).toBe("guest_protocol");
      expect(workers.map(({ killed }) => killed)).toEqual([true]);
      honest = true;
      expect(await files.stat("/f")).toMatchObject({ type: "file", size: 3 });
      expect(workers.map(({ killed }) => killed)).toEqual([true, false]);
    });

  verifies("files/hostile-worker", "answers may come cut at any byte, and several in one piece", async () => {
    const { container } = lying((id) => {
      const bytes = frame(OK, id, entry());
      return [bytes.subarray(0, 5), bytes.subarray(5, 30), bytes.subarray(30)];
    });
    const files = filesOf(container);
    expect((await Promise.all([files.stat("/a"), files.stat("/b")])).map(({ path }) => path)).toEqual(["/a", "/b"]);
  });
});

describe("a real worker", () => {
  let lab: NativeLab;
  beforeAll(async () => {
    lab = await openNativeLab();
  });
  afterAll(() => lab.dispose());

  verifies("files/worker-killed", "a worker that is killed costs a reading call nothing, and the next call has a new one", async () => {
    const container = await lab.make();
    const files = filesOf(container);
    await files.write("/workspace/f", "bytes");
    const kill = () => output(container, "kill -9 $(grep -l '^Name:.files$' /proc/[0-9]*/status | cut -d/ -f3)");
    await kill();
    expect(await files.readText("/workspace/f")).toBe("bytes");
    const content = await files.open("/workspace/f");
    await kill();
    expect(await files.readText("/workspace/f")).toBe("bytes");
    for await (const chunk of content) expect(Buffer.from(chunk).toString()).toBe("bytes");
    await container.destroy();
    expect(await codeOf(files.stat("/workspace/f"))).toBe("sandbox_lost");
  });

  verifies("files/quota", "what is written is refused while the delta is above its limit, and stopped when it gets there", async () => {
    const container = await lab.make();
    let [over, stop]: [boolean, (limit: "disk") => void] = [false, () => undefined];
    const guard = (hit: (limit: "disk") => void) => {
      stop = hit;
      return () => undefined;
    };
    const files = new LocalFiles({ container, refusal: () => undefined, guard, over: () => (over ? "disk" : undefined) });
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (let i = 0; ; i++) {
        if (i === 8) stop("disk");
        yield Buffer.alloc(256 * 1024, 1);
      }
    }
    expect(await codeOf(files.write("/workspace/f", endless()))).toBe("limit_reached");
    expect(await files.exists("/workspace/f")).toBe(false);
    over = true;
    for (const call of [files.write("/workspace/g", "x"), files.mkdir("/workspace/d"), files.link("/workspace/l", "x")])
      expect(await codeOf(call)).toBe("limit_reached");
    expect(await files.list("/workspace")).toEqual({ items: [] });
  });
});
