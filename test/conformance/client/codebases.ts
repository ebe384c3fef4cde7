// Rows of the client suite: stored codebases, their versions and files, uploads, and sandboxes that stand on them.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, onTestFinished } from "vitest";
import type { Client } from "../../../src/api/client.ts";
import type { CodebaseResource, CreateCodebaseBody } from "../../../src/api/codebases.ts";
import { tarHeader } from "../../../src/base/tar-writer.ts";
import { type TreeEntry, uploadTree } from "../../../src/sdk/upload.ts";
import { gitHere } from "../../fixtures/git-here.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

const UNKNOWN = "cb01234567890123456789";

async function all(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const chunk of chunks) pieces.push(chunk);
  return Buffer.concat(pieces);
}

function file(path: string, content: string, mode = 0o644): TreeEntry {
  return { path, type: "file", mode, mtimeMs: 1_700_000_000_500, content: () => Buffer.from(content) };
}

export function codebaseRows(lab: () => ClientLab): void {
  async function make(body: Partial<CreateCodebaseBody> = {}, client?: Client): Promise<CodebaseResource> {
    const by = client ?? (await lab().of("ann"));
    const made = await by.codebases.create({ name: "app", ...body });
    onTestFinished(async () => void (await codeOf(by.codebases.delete(made.id))));
    return made;
  }
  const shown = async (client: Client, id: string, version?: number): Promise<string[]> => {
    const { items } = await client.codebases.entries(id, { recursive: true, ...(version === undefined ? {} : { version }) });
    return items.map(({ path, type, mode, target }) => `${type} ${path}${mode === undefined ? ` -> ${target}` : ` ${mode.toString(8)}`}`);
  };

  verifies("client/codebase-life", "a codebase is made, told, listed by name, changed into versions and deleted", async () => {
    const ann = await lab().of("ann");
    const made = await make({ name: "life", labels: { team: "a" } });
    expect(made).toMatchObject({
      ownerId: "ann",
      name: "life",
      labels: { team: "a" },
      version: { number: 1, bytes: 0, entries: 0, source: "empty" },
    });
    const put = await ann.codebases.put(made.id, "src/main.py", Buffer.from("print(1)\n"), { mode: 0o755 });
    expect(put.version).toMatchObject({ number: 2, bytes: 9, files: 1, entries: 2, source: "put" });
    expect((await ann.codebases.put(made.id, "/src/main.py", Buffer.from("print(2)\n"))).version.number).toBe(3);
    expect(await shown(ann, made.id)).toEqual(["dir src 755", "file src/main.py 755"]);
    expect(text(await all(ann.codebases.read(made.id, "src/main.py")))).toBe("print(2)\n");
    expect(text(await all(ann.codebases.read(made.id, "src/main.py", { version: 2 })))).toBe("print(1)\n");
    expect((await ann.codebases.versions(made.id)).items.map(({ number, source }) => [number, source])).toEqual([
      [3, "put"],
      [2, "put"],
      [1, "empty"],
    ]);
    expect((await ann.codebases.versions(made.id, { limit: 1, cursor: "3" })).items.map(({ number }) => number)).toEqual([2]);
    expect((await ann.codebases.list({ name: "life" })).items.map(({ id }) => id)).toEqual([made.id]);
    expect((await ann.codebases.remove(made.id, "src")).version).toMatchObject({ number: 4, entries: 0, source: "delete" });
    await ann.codebases.delete(made.id);
    expect(await codeOf(ann.codebases.get(made.id))).toBe("codebase_not_found");
    expect(await codeOf(ann.codebases.delete(made.id))).toBe("codebase_not_found");
  });

  verifies(
    "client/codebase-refusals",
    "paths that climb, files that are not there and versions that moved are refused by code",
    async () => {
      const { codebases } = await lab().of("ann");
      const { id } = await make();
      await codebases.put(id, "d/f", new Uint8Array(0));
      for (const path of ["../x", "a/../../x", "", "/", "a\0b", "n".repeat(256)])
        expect([path, await codeOf(codebases.put(id, path, new Uint8Array(1)))]).toEqual([path, "request_invalid"]);
      expect(await codeOf(codebases.put(id, "d", new Uint8Array(1)))).toBe("request_invalid");
      expect(await codeOf(codebases.put(id, "d/f/g", new Uint8Array(1)))).toBe("request_invalid");
      expect(await codeOf(all(codebases.read(id, "d/none")))).toBe("file_not_found");
      expect(await codeOf(all(codebases.read(id, "d")))).toBe("file_not_found");
      expect((await all(codebases.read(id, "d/f"))).length).toBe(0);
      expect(await codeOf(codebases.remove(id, "d/none"))).toBe("file_not_found");
      expect(await codeOf(codebases.entries(id, { path: "d/f" }))).toBe("request_invalid");
      expect((await codebases.entries(id, { path: "none" })).items).toEqual([]);
      expect(await codeOf(codebases.entries(id, { version: 9 }))).toBe("codebase_not_found");
      expect(await codeOf(codebases.put(id, "x", new Uint8Array(1), { expectedVersion: 1 }))).toBe("codebase_state");
      expect((await codebases.put(id, "x", new Uint8Array(1), { expectedVersion: 2 })).version.number).toBe(3);
      expect(await codeOf(codebases.importTar(id, Buffer.from("no tar at all".repeat(100))))).toBe("codebase_unreadable");
      expect((await codebases.get(id)).version.number).toBe(3);
    },
  );

  verifies(
    "client/codebase-owners",
    "a codebase of another owner is as one that never was, and a key for one sandbox reaches none",
    async () => {
      const [ann, bob] = [await lab().of("ann"), await lab().of("bob")];
      const mine = await make();
      const narrow = await lab().ofSandbox("ann", (await lab().make()).id);
      for (const id of [mine.id, UNKNOWN, "cb/../x"]) {
        expect(await codeOf(bob.codebases.get(id))).toBe("codebase_not_found");
        expect(await codeOf(bob.codebases.put(id, "x", new Uint8Array(1)))).toBe("codebase_not_found");
        expect(await codeOf(all(bob.codebases.tar(id)))).toBe("codebase_not_found");
        expect(await codeOf(bob.codebases.uploads.begin(id, { entries: [] }))).toBe("codebase_not_found");
        expect(await codeOf(lab().make({ codebase: { id } }, bob))).toBe("codebase_not_found");
      }
      expect(await codeOf(narrow.codebases.get(mine.id))).toBe("forbidden");
      expect(await codeOf(narrow.codebases.list())).toBe("forbidden");
      expect((await bob.codebases.list()).items).toEqual([]);
      expect((await lab().admin.codebases.get(mine.id)).ownerId).toBe("ann");
      expect(await codeOf(ann.codebases.create({ name: "x", from: { dir: lab().dir } }))).toBe("forbidden");
      // What ann has tells bob nothing, and cannot be had by its hash.
      await ann.codebases.put(mine.id, "secret", Buffer.from("secret"));
      const other = await make({}, bob);
      const hash = createHash("sha256").update("secret").digest("hex");
      const upload = await bob.codebases.uploads.begin(other.id, { entries: [{ path: "guess", type: "file", size: 6, hash }] });
      expect(upload.missing).toEqual([hash]);
      expect(await codeOf(bob.codebases.uploads.commit(other.id, upload.id))).toBe("codebase_state");
    },
  );

  verifies("client/codebase-import", "a directory of the machine and a tar become the same tree, which leaves again as a tar", async () => {
    const { admin, dir } = lab();
    const place = join(dir, "project");
    mkdirSync(join(place, "src/empty"), { recursive: true });
    writeFileSync(join(place, "run"), "#!/bin/sh\n");
    chmodSync(join(place, "run"), 0o755);
    symlinkSync("../run", join(place, "src/link"));
    execFileSync("mkfifo", [join(place, "pipe")]);
    const made = await admin.codebases.create({ name: "dir", from: { dir: place } });
    onTestFinished(async () => void (await codeOf(admin.codebases.delete(made.id))));
    expect(made).toMatchObject({ skipped: ["pipe"], version: { source: "directory", files: 1, entries: 4 } });
    const expected = ["file run 755", "dir src 755", "dir src/empty 755", "link src/link -> ../run"];
    expect(await shown(admin, made.id)).toEqual(expected);
    const tar = await all(admin.codebases.tar(made.id));
    expect(execFileSync("tar", ["-tf", "-"], { input: tar, encoding: "utf8" }).split("\n").filter(Boolean)).toEqual([
      "run",
      "src/",
      "src/empty/",
      "src/link",
    ]);
    const other = await make();
    const ann = await lab().of("ann");
    expect((await ann.codebases.importTar(other.id, gzipSync(tar))).version).toMatchObject({ number: 2, source: "tar" });
    expect(await shown(ann, other.id)).toEqual(expected);
    expect(await codeOf(admin.codebases.importFrom(made.id, { dir: join(dir, "none") }))).toBe("codebase_not_found");
  });

  verifies(
    "client/codebase-git",
    "a commit of a git repository becomes a version, for an admin or from a host that is allowed",
    async () => {
      const { admin, dir } = lab();
      const [ann, place] = [await lab().of("ann"), mkdtempSync("/tmp/corral-git-")];
      onTestFinished(() => rmSync(place, { recursive: true, force: true }));
      chmodSync(place, 0o755); // the lab's own is its server's alone
      const repository = gitHere(join(place, "repository"));
      const { url } = repository;
      const made = await admin.codebases.create({ name: "git", from: { git: { url, ref: "v1" } } });
      onTestFinished(async () => void (await codeOf(admin.codebases.delete(made.id))));
      expect(made.version).toMatchObject({ number: 1, source: `git ${repository.git("rev-parse", "v1").trim()}`, files: 5 });
      expect(await shown(admin, made.id)).toEqual(expect.arrayContaining(["file bin/run 755", "dir sub 755", "link link -> /etc/passwd"]));
      expect((await all(admin.codebases.read(made.id, "a.txt"))).toString()).toBe("$Format:%H$\none\n");
      const next = await admin.codebases.importFrom(made.id, { git: { url } }, { expectedVersion: 1 });
      expect(next.version).toMatchObject({ number: 2, source: `git ${repository.git("rev-parse", "main").trim()}`, files: 6 });
      for (const [source, code] of [
        [{ url, ref: "none" }, "git_failed"],
        [{ url: "ssh://code.example/x" }, "request_invalid"],
        [{ url: `file://${dir}`, ref: "--x" }, "request_invalid"],
      ] as const)
        expect(await codeOf(admin.codebases.importFrom(made.id, { git: source }))).toBe(code);
      for (const denied of [url, "https://other.example/x", "https://code.example.other/x"])
        expect(await codeOf(ann.codebases.create({ name: "x", from: { git: { url: denied } } }))).toBe("forbidden");
      expect((await ann.codebases.list({ name: "x" })).items).toEqual([]);
    },
  );

  verifies("client/codebase-idempotent", "one idempotency key makes one codebase", async () => {
    const { codebases } = await lab().of("ann");
    const first = await codebases.create({ name: "once" }, { idempotencyKey: "cb1" });
    expect((await codebases.create({ name: "once" }, { idempotencyKey: "cb1" })).id).toBe(first.id);
    expect(await codeOf(codebases.create({ name: "twice" }, { idempotencyKey: "cb1" }))).toBe("idempotency_conflict");
    await codebases.delete(first.id);
  });

  verifies("client/upload", "an upload sends what the server lacks and nothing else, and the version appears at its end", async () => {
    const ann = await lab().of("ann");
    const { id } = await make();
    const big = "x".repeat(9_000_000);
    const tree = [
      file("src/a.py", "a\n"),
      file("src/b.py", "b\n", 0o755),
      file("big", big),
      { path: "empty", type: "dir", mode: 0o700 },
      { path: "l", type: "link", target: "src/a.py" },
    ] as const;
    const sent: number[] = [];
    const first = await uploadTree(ann.codebases, id, tree, { onProgress: ({ sent: count, missing }) => void sent.push(missing - count) });
    expect(sent.at(0)).toBe(3);
    expect(sent.at(-1)).toBe(0);
    expect(first.version).toMatchObject({ number: 2, files: 3, source: "upload", bytes: big.length + 4 });
    expect(await shown(ann, id)).toEqual([
      "file big 644",
      "dir empty 700",
      "link l -> src/a.py",
      "dir src 755",
      "file src/a.py 644",
      "file src/b.py 755",
    ]);
    const [entry] = (await ann.codebases.entries(id, { path: "src" })).items;
    expect(entry).toMatchObject({
      size: 2,
      modifiedAt: "2023-11-14T22:13:20.500Z",
      hash: createHash("sha256").update("a\n").digest("hex"),
    });
    let missing = -1;
    const second = await uploadTree(ann.codebases, id, [...tree.slice(1), file("src/c.py", "c\n")], {
      onProgress: (progress) => void (missing = progress.missing),
    });
    expect(missing).toBe(1);
    expect(second.version.number).toBe(3);
    expect((await ann.codebases.entries(id, { recursive: true, limit: 3 })).items).toHaveLength(3);
    const paths: string[] = [];
    for (let cursor: string | undefined, more = true; more; ) {
      const page = await ann.codebases.entries(id, { recursive: true, limit: 2, ...(cursor === undefined ? {} : { cursor }) });
      paths.push(...page.items.map(({ path }) => path));
      cursor = page.next;
      more = cursor !== undefined;
    }
    expect(paths).toEqual(["big", "empty", "l", "src", "src/b.py", "src/c.py"]);
  });

  verifies(
    "client/upload-resume",
    "an upload that broke off goes on with what is left, and shows nothing before it is committed",
    async () => {
      const { codebases } = await lab().of("ann");
      const { id } = await make();
      const contents = ["one", "two"].map((content) => ({
        hash: createHash("sha256").update(content).digest("hex"),
        content: Buffer.from(content),
      }));
      const entries = contents.map(({ hash, content }, index) => ({
        path: `f${index}`,
        type: "file" as const,
        size: content.length,
        hash,
      }));
      const upload = await codebases.uploads.begin(id, { entries });
      expect([...upload.missing].sort()).toEqual(contents.map(({ hash }) => hash).sort());
      const [one, two] = contents;
      if (one === undefined || two === undefined) throw new Error("no contents");
      // The second is not what it says: the first stays.
      expect(await codeOf(codebases.uploads.send(id, upload.id, [one, { ...two, content: Buffer.from("tow") }]))).toBe("request_invalid");
      expect((await codebases.uploads.get(id, upload.id)).missing).toEqual([two.hash]);
      expect(await codeOf(codebases.uploads.commit(id, upload.id))).toBe("codebase_state");
      expect((await codebases.get(id)).version.number).toBe(1);
      expect(await codeOf(codebases.uploads.send(id, upload.id, [{ hash: "0".repeat(64), content: Buffer.from("not told") }]))).toBe(
        "request_invalid",
      );
      await codebases.uploads.send(id, upload.id, [two]);
      expect((await codebases.uploads.commit(id, upload.id, { expectedVersion: 1 })).version).toMatchObject({ number: 2, files: 2 });
      expect(await codeOf(codebases.uploads.get(id, upload.id))).toBe("upload_not_found");
      const again = await codebases.uploads.begin(id, { entries });
      expect(again.missing).toEqual([]);
      await codebases.uploads.abandon(id, again.id);
      expect(await codeOf(codebases.uploads.commit(id, again.id))).toBe("upload_not_found");
      for (const wrong of [
        [{ path: "../x", type: "dir" as const }],
        [{ path: "a", type: "file" as const }],
        [entries[0], { ...entries[0], path: "f0/x" }],
      ])
        expect(await codeOf(codebases.uploads.begin(id, { entries: wrong as never }))).toBe("request_invalid");
    },
  );

  verifies("client/codebase-sandbox", "a sandbox stands on a version, and what it commits is the next one", async () => {
    const ann = await lab().of("ann");
    const { id } = await make();
    await uploadTree(ann.codebases, id, [file("a", "a\n"), file("run", "#!/bin/sh\necho ran\n", 0o755), file(".env", "secret")]);
    const [first, second] = [
      await lab().make({ codebase: { id }, policy: "development" }),
      await lab().make({ codebase: { id, version: 2 }, policy: "development" }),
    ];
    expect((await first.info()).codebase).toEqual({ id, version: 2 });
    const run = await first.exec({ command: "./run; cat a; ls -A; echo changed > a; echo new > n" });
    expect(text(run.stdout)).toBe("ran\na\na\nrun\n");
    expect(text((await second.exec({ command: "cat a; echo other > o" })).stdout)).toBe("a\n");
    expect((await first.delta.changes()).changes.map(({ path, kind }) => `${kind} ${path}`)).toEqual(["modify /a", "add /n"]);
    expect(text(await all(first.delta.text()))).toContain("+changed");
    expect(await codeOf(ann.codebases.delete(id))).toBe("codebase_state");
    expect((await first.delta.commit()).committed).toHaveLength(2);
    expect((await second.delta.commit()).committed).toHaveLength(1);
    expect((await ann.codebases.get(id)).version).toMatchObject({ number: 4, source: `commit ${second.id}` });
    expect(await shown(ann, id)).toEqual(["file .env 644", "file a 644", "file n 644", "file o 644", "file run 755"]);
    await second.exec({ command: "echo late > a" });
    expect(await codeOf(second.delta.commit())).toBe("commit_conflict");
    expect(text(await all(ann.codebases.read(id, "a")))).toBe("changed\n");
    await first.destroy();
    await second.destroy();
    const plain = await lab().make({ codebase: { id } });
    expect((await plain.exec({ command: "cat .env" })).exitCode).toBe(1);
    expect((await plain.exec({ command: "touch a" })).exitCode).toBe(1);
    await plain.destroy();
    await ann.codebases.delete(id);
  });

  verifies(
    "client/codebase-quota",
    "an owner's codebases are bounded in number and bytes, and what is deleted counts no more",
    async () => {
      const cleo = await lab().of("cleo");
      const made = await make({}, cleo);
      const half = Buffer.alloc(15 * 1024 ** 2, 1);
      await cleo.codebases.put(made.id, "half", half);
      expect(await codeOf(cleo.codebases.put(made.id, "more", Buffer.alloc(15 * 1024 ** 2, 2)))).toBe("limit_reached");
      const size = 200 * 1024 ** 2;
      const bomb = gzipSync(
        Buffer.concat([tarHeader({ path: "z", type: "file", mode: 0o644, mtimeSeconds: 0, size }), Buffer.alloc(size)]),
      );
      expect(await codeOf(cleo.codebases.importTar(made.id, bomb))).toBe("limit_reached");
      await cleo.codebases.delete(made.id);
      const other = await make({}, cleo);
      // It is swept when nobody writes.
      await expect.poll(() => codeOf(cleo.codebases.put(other.id, "more", Buffer.alloc(15 * 1024 ** 2, 2)))).toBe("passed");
    },
  );
}
