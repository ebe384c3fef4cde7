// Rows of the client suite: files of a sandbox, as users ask for them and as attackers would. Trees and watches: file-trees.ts.

import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { SandboxHandle } from "../../../src/api/client.ts";
import type { FileCalls } from "../../../src/api/files.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

const MIB = 1024 * 1024;

async function sh(sandbox: SandboxHandle, command: string): Promise<string> {
  const { exitCode, stdout, stderr } = await sandbox.exec({ command });
  if (exitCode !== 0) throw new Error(`${command}: ${text(stderr)}`);
  return text(stdout);
}

async function* chunked(total: number, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < total; at += size) yield Buffer.alloc(Math.min(size, total - at), at % 251);
}

async function names(files: FileCalls, path: string, limit?: number): Promise<string[]> {
  const found: string[] = [];
  for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
    const page = await files.list(path, { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { cursor }) });
    found.push(...page.items.map(({ name }) => name));
    cursor = page.next;
  }
  return found;
}

export function fileRows(lab: () => ClientLab): void {
  verifies("files/read-write", "a file is written and read whole, in part, as text, as a stream and empty", async () => {
    const sandbox = await lab().make();
    const { files } = sandbox;
    expect(await files.write("/workspace/f", "grüße\n")).toMatchObject({
      name: "f",
      path: "/workspace/f",
      type: "file",
      size: 8,
      mode: 0o644,
    });
    expect(await sh(sandbox, "cat f")).toBe("grüße\n");
    expect(await files.readText("/workspace/f")).toBe("grüße\n");
    expect(text(await files.read("/workspace/f", { offset: 4, length: 3 }))).toBe("ße");
    expect(text(await files.read("/workspace/f", { offset: -2 }))).toBe("e\n");
    expect((await files.read("/workspace/f", { offset: 100 })).length).toBe(0);
    expect((await files.read("/workspace/f", { length: 0 })).length).toBe(0);
    await files.write("/workspace/empty", new Uint8Array(0));
    expect([(await files.read("/workspace/empty")).length, (await files.stat("/workspace/empty")).size]).toEqual([0, 0]);
    await files.write("/workspace/f", "more", { append: true });
    await files.write("/workspace/f", "G", { offset: 0 });
    expect(await files.readText("/workspace/f")).toBe("Grüße\nmore");
    expect(await files.readText("/proc/version")).toMatch(/^Linux version/);
    expect((await files.open("/workspace/f")).size).toBe(12);
  });

  verifies(
    "files/large",
    "100 MB go both ways in pieces, and what is read while it is replaced is one file",
    async () => {
      const sandbox = await lab().make();
      const { files } = sandbox;
      const total = 100 * MIB + 1;
      expect(await files.write("/workspace/big", chunked(total, 300_001))).toMatchObject({ size: total });
      const content = await files.open("/workspace/big");
      expect(content.size).toBe(total);
      let seen = 0;
      let good = true;
      for await (const chunk of content) {
        if (seen === 0) await files.write("/workspace/big", "small now");
        for (let at = 0; at < chunk.length; at += 100_000) good &&= chunk[at] === (Math.floor((seen + at) / 300_001) * 300_001) % 251;
        seen += chunk.length;
      }
      expect([seen, good]).toEqual([total, true]);
      expect(await files.readText("/workspace/big")).toBe("small now");
    },
    120_000,
  );

  verifies("files/cut-off", "an upload that is cut off leaves the old file and nothing else", async () => {
    const sandbox = await lab().make();
    const { files } = sandbox;
    await files.write("/workspace/f", "old");
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield* chunked(2 * MIB, 64 * 1024);
      throw new Error("the disk of the sender broke");
    }
    await expect(files.write("/workspace/f", failing())).rejects.toThrow();
    const gone = new AbortController();
    async function* stalling(): AsyncGenerator<Uint8Array> {
      yield* chunked(2 * MIB, 64 * 1024);
      gone.abort();
      await new Promise((go) => setTimeout(go, 100));
      yield new Uint8Array(1);
    }
    await expect(files.write("/workspace/f", stalling(), { signal: gone.signal })).rejects.toThrow();
    expect([await files.readText("/workspace/f"), await names(files, "/workspace")]).toEqual(["old", ["f"]]);
  });

  verifies("files/concurrent", "writes of one file at once leave one of them whole; calls do not wait for a slow upload", async () => {
    const sandbox = await lab().make();
    const { files } = sandbox;
    const sizes = [1, 300_000, 700_000, 5, 1_000_000];
    const { promise, resolve } = Promise.withResolvers<void>();
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(600_000);
      await promise;
      yield Buffer.alloc(1);
    }
    const waiting = files.write("/workspace/slow", slow());
    await Promise.all(sizes.map((size, i) => files.write("/workspace/f", Buffer.alloc(size, i + 1))));
    const bytes = await files.read("/workspace/f");
    expect(sizes[(bytes[0] ?? 0) - 1]).toBe(bytes.length);
    expect(bytes.every((byte) => byte === bytes[0])).toBe(true);
    expect(await names(files, "/workspace")).toEqual(["f"]);
    resolve();
    expect(await waiting).toMatchObject({ size: 600_001 });
  });

  verifies(
    "files/list",
    "a directory of 10,000 entries comes in pages, sorted, each name once",
    async () => {
      const sandbox = await lab().make();
      const { files } = sandbox;
      await sh(sandbox, "mkdir d && cd d && seq -f 'n%05g' 10000 | xargs touch; ln -s n00001 a-link; mkdir z-dir");
      const all = await names(files, "/workspace/d");
      expect([all.length, all[0], all.at(-1)]).toEqual([10_002, "a-link", "z-dir"]);
      expect(all.slice(1, -1)).toEqual(Array.from({ length: 10_000 }, (_, i) => `n${String(i + 1).padStart(5, "0")}`));
      expect((await names(files, "/workspace/d", 700)).length).toBe(10_002);
      expect((await files.list("/workspace/d", { limit: 1 })).items).toMatchObject([
        { name: "a-link", path: "/workspace/d/a-link", type: "link", target: "n00001" },
      ]);
      expect(await files.list("/workspace/d/z-dir")).toEqual({ items: [] });
      expect(await codeOf(files.list("/workspace/d/n00001"))).toBe("not_a_directory");
      expect(await codeOf(files.list("/workspace/d", { cursor: "Li4vLi4AAA" }))).toBe("request_invalid");
    },
    60_000,
  );

  verifies(
    "files/change",
    "directories, moves, links, modes, metadata and removals do what was asked, and say what stood in the way",
    async () => {
      const sandbox = await lab().make();
      const { files } = sandbox;
      const at = (name: string) => `/workspace/${name}`;
      expect(await files.mkdir(at("a/b"), { parents: true })).toMatchObject({ type: "dir", mode: 0o755 });
      expect(await codeOf(files.mkdir(at("x/y")))).toBe("file_not_found");
      expect(await codeOf(files.mkdir(at("a")))).toBe("file_exists");
      await files.write(at("a/b/c/f"), "f", { parents: true, mode: 0o600 });
      expect(await codeOf(files.write(at("a/b/c/f"), "g", { exclusive: true }))).toBe("file_exists");
      expect(await codeOf(files.write(at("a"), "g"))).toBe("is_a_directory");
      expect(await codeOf(files.write(at("a/b/c/f/g"), "g"))).toBe("not_a_directory");
      await files.link(at("link"), "a/b/c/f");
      await files.write(at("link"), "through");
      expect([await files.readText(at("a/b/c/f")), (await files.stat(at("link"), { follow: false })).target]).toEqual([
        "through",
        "a/b/c/f",
      ]);
      expect(await files.stat(at("link"))).toMatchObject({ type: "file", mode: 0o600 });
      const updated = await files.update(at("a/b/c/f"), { mode: 0o640, metadata: { kind: "note", "who.is": "ann", gone: null } });
      expect(updated).toMatchObject({ mode: 0o640, metadata: { kind: "note", "who.is": "ann" } });
      await files.write(at("a/b/c/f"), "again");
      expect((await files.stat(at("a/b/c/f"))).metadata).toEqual({ kind: "note", "who.is": "ann" });
      expect((await files.update(at("a/b/c/f"), { metadata: { kind: null } })).metadata).toEqual({ "who.is": "ann" });
      for (const name of ["overlay.opaque", "", "a/b", "\u0000"])
        expect(await codeOf(files.update(at("a"), { metadata: { [name]: "y" } }))).toBe("request_invalid");
      await files.write(at("g"), "g");
      expect(await codeOf(files.move(at("a/b/c/f"), at("g"), { overwrite: false }))).toBe("file_exists");
      await files.move(at("a/b/c/f"), at("new/g"), { parents: true });
      await files.move(at("new/g"), "/tmp/other-file-system");
      expect([await files.readText("/tmp/other-file-system"), await files.exists(at("new/g"))]).toEqual(["again", false]);
      expect(await codeOf(files.move(at("a"), "/tmp/a"))).toBe("file_unsupported");
      expect(await codeOf(files.remove(at("a")))).toBe("directory_not_empty");
      await files.remove(at("a"), { recursive: true });
      expect(await codeOf(files.remove(at("a"), { recursive: true }))).toBe("file_not_found");
      expect([await files.exists(at("link")), await names(files, "/workspace")]).toEqual([false, ["g", "link", "new"]]);
    },
  );

  verifies("files/names", "a path is its bytes: odd ones work, wrong ones are refused by name, none leads out", async () => {
    const sandbox = await lab().make();
    const { files } = sandbox;
    const odd = "/workspace/-rf \n\t'\"\\%2e%2e ü?&=#";
    await files.write(odd, "odd");
    expect([await files.readText(odd), await names(files, "/workspace")]).toEqual(["odd", [odd.slice(11)]]);
    const bytes = Buffer.from("/workspace/\xff\xfe", "latin1").toString("base64");
    await files.write({ base64: bytes }, "bytes");
    const { items } = await files.list("/workspace");
    expect(items.at(-1)).toMatchObject({ name: "\ufffd\ufffd", base64: bytes });
    expect(text(await files.read({ base64: bytes }))).toBe("bytes");
    await files.remove({ base64: bytes });
    for (const path of ["relative", "", "./f", "/a\0b", `/${"x".repeat(5_000)}`, `/${"x/".repeat(2_100)}f`])
      expect(await codeOf(files.read(path)), JSON.stringify(path).slice(0, 20)).toBe("request_invalid");
    expect(await codeOf(files.read(`/${"x".repeat(256)}`))).toBe("file_unsupported");
    expect(await codeOf(files.read(`/${"x/".repeat(2_000)}f`))).toBe("file_not_found");
    expect(await files.readText("/workspace/../../../../../proc/self/../version")).toMatch(/^Linux/);
    expect(await codeOf(files.read("/workspace/../../../etc/shadow"))).toBe("file_not_found");
    await files.write("/workspace/../workspace/./up", "up");
    expect(await files.readText("/workspace/up")).toBe("up");
  });

  verifies("files/special", "FIFOs, devices, sockets, memory and links of /proc are refused at once", async () => {
    const sandbox = await lab().make();
    const { files } = sandbox;
    await sh(sandbox, "mkfifo fifo; ln -s /dev/zero zero; ln -s /proc/self/root/etc/passwd root; ln -s fifo tofifo");
    for (const path of ["/workspace/fifo", "/workspace/tofifo", "/workspace/zero", "/dev/zero", "/dev/null"]) {
      expect(await codeOf(files.read(path)), path).toBe("file_special");
      expect(await codeOf(files.write(path, "x")), path).toBe("file_special");
      expect(await codeOf(files.write(path, "x", { append: true })), path).toBe("file_special");
    }
    for (const path of [
      "/proc/self/mem",
      "/proc/1/mem",
      "/proc/self/exe",
      "/workspace/root",
      "/proc/1/root/etc/passwd",
      "/proc/self/fd/0",
    ]) {
      expect(await codeOf(files.read(path)), path).toBe("file_denied");
      expect(await codeOf(files.write(path, "x")), path).toBe("file_denied");
    }
    expect(await codeOf(files.write("/proc/sys/kernel/hostname", "x"))).toBe("file_denied");
    expect(await codeOf(files.remove("/proc/version"))).toBe("file_denied");
    expect((await files.stat("/workspace/fifo")).type).toBe("other");
  });

  verifies("files/policy", "every call meets the policy's verdict, by every way to a path, and what is hidden is not there", async () => {
    const dir = join(lab().dir, `policy-${Math.random().toString(36).slice(2)}`);
    mkdirSync(join(dir, "private"), { recursive: true });
    for (const name of ["none", "view", "read", "write", "private/key"]) writeFileSync(join(dir, name), "content");
    symlinkSync("none", join(dir, "to-none"));
    const rules = [
      { pattern: "/**", permission: "write" },
      { pattern: "/none", permission: "none" },
      { pattern: "/private/", permission: "none" },
      { pattern: "/view", permission: "view" },
      { pattern: "/read", permission: "read" },
    ] as const;
    const { files } = await lab().make({ codebaseDir: dir, policy: { rules } }, lab().admin);
    const at = (name: string) => `/workspace/${name}`;
    const codes = async (name: string) => [
      await codeOf(files.stat(at(name))),
      await codeOf(files.read(at(name))),
      await codeOf(files.write(at(name), "x", { append: true })),
      await codeOf(files.update(at(name), { mode: 0o600 })),
    ];
    expect(await codes("private/key")).toEqual(["file_not_found", "file_not_found", "file_not_found", "file_not_found"]);
    expect(await codes("view")).toEqual(["passed", "file_denied", "file_denied", "file_denied"]);
    expect(await codes("read")).toEqual(["passed", "passed", "file_denied", "file_denied"]);
    expect(await codes("write")).toEqual(["passed", "passed", "passed", "passed"]);
    for (const name of ["view", "read"]) {
      expect(await codeOf(files.write(at(name), "x")), name).toBe("file_denied");
      expect(await codeOf(files.move(at(name), at("moved"))), name).toBe("file_denied");
      expect(await codeOf(files.move(at("write"), at(name))), name).toBe("file_denied");
      expect(await codeOf(files.remove(at(name), { recursive: true })), name).toBe("file_denied");
    }
    expect(await names(files, "/workspace")).toEqual(["read", "to-none", "view", "write"]);
    for (const path of [at("none"), at("to-none"), at("./none"), at("x/../none"), "/proc/self/cwd/workspace/none"])
      expect(await codeOf(files.read(path)), path).toSatisfy((code) => code === "file_not_found" || code === "file_denied");
    expect(await files.exists(at("none"))).toBe(false);
    expect(await codeOf(files.remove(at("none")))).toBe("file_not_found");
  });

  verifies(
    "files/race",
    "a process that swaps a directory for a link to somewhere else gets nothing that it could not do itself",
    async () => {
      const sandbox = await lab().make();
      const { files } = sandbox;
      await sh(sandbox, "mkdir d other; echo mine > d/f");
      const swapping = sandbox.exec({
        command: "while :; do mv d held && ln -s /etc d && rm d && mv held d; [ -e stop ] && break; done; exit 0",
        timeoutMs: 30_000,
      });
      const seen = new Set<string>();
      const told = ({ code }: { code: string }): string => code;
      for (let i = 0; i < 300; i++) {
        seen.add(await files.readText("/workspace/d/shadow").catch(told));
        seen.add(await files.write(`/workspace/d/w${i}`, "x").then(() => "written", told));
      }
      await files.write("/workspace/stop", "");
      await swapping;
      for (const code of seen) expect(["file_not_found", "file_denied", "written"]).toContain(code);
      await files.remove("/workspace/stop");
      expect((await files.list("/etc")).items.some(({ name }) => /^w\d+$/.test(name))).toBe(false);
      expect((await sh(sandbox, "ls /etc | grep -c '^w[0-9]' || true")).trim()).toBe("0");
    },
    60_000,
  );

  verifies("files/owners", "files are reached with a key that reaches their sandbox, while it is there", async () => {
    const mine = await lab().make();
    const bob = await lab().of("bob");
    await mine.files.write("/workspace/f", "mine");
    expect(await codeOf(bob.sandbox(mine.id).files.read("/workspace/f"))).toBe("sandbox_not_found");
    expect(await codeOf(bob.sandbox(mine.id).files.write("/workspace/f", "x"))).toBe("sandbox_not_found");
    const narrow = await lab().ofSandbox("ann", mine.id);
    expect(await narrow.sandbox(mine.id).files.readText("/workspace/f")).toBe("mine");
    await mine.destroy();
    expect(await codeOf(mine.files.read("/workspace/f"))).toBe("sandbox_not_found");
  });
}
