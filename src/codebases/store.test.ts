// A store of codebases on a real disk: what goes in comes out, what is hostile does not go in, what nobody needs goes.

import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestProgram } from "../../guest/test/build.ts";
import { directTool } from "../../test/fixtures/direct-tool.ts";
import { verifies } from "../../test/verifies.ts";
import type { CorralError } from "../api/errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../base/tar-writer.ts";
import { PathTakenError, TreeDraft } from "./draft.ts";
import { Filler } from "./filler.ts";
import { importDir } from "./import-dir.ts";
import { importTar } from "./import-tar.ts";
import type { DirNode } from "./nodes.ts";
import { decodeWalk, type WalkEntry, type WalkEvent } from "../view/walk.ts";
import { entriesBelow, findNode, tarOf, walkEvents } from "./read.ts";
import { CodebaseStore, type OwnerObjects } from "./store.ts";

let dir: string;
let count = 0;
beforeAll(() => void (dir = mkdtempSync("/tmp/corral-codebases-")));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function fresh(quotaBytes?: number): CodebaseStore {
  return new CodebaseStore(join(dir, String(++count)), quotaBytes === undefined ? {} : { quotaBytes });
}

async function fill(owner: OwnerObjects, act: (filler: Filler) => Promise<unknown>): Promise<DirNode> {
  const draft = await TreeDraft.over(owner.objects);
  await act(new Filler(draft, owner.objects));
  const root = await draft.write();
  await owner.objects.flush();
  return root;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function ofTar(owner: OwnerObjects, bytes: Uint8Array): Promise<DirNode> {
  return fill(owner, (filler) => importTar(filler, once(bytes)));
}

async function tarBytes(owner: OwnerObjects, root: DirNode): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of tarOf(owner.objects, root)) pieces.push(piece);
  return Buffer.concat(pieces);
}

function entry(path: string, type: "file" | "dir" | "link", content = ""): Buffer {
  const size = type === "file" ? content.length : 0;
  const header = tarHeader({ path, type, mode: 0o644, mtimeSeconds: 5, size, ...(type === "link" ? { target: content } : {}) });
  return type === "file" ? Buffer.concat([header, Buffer.from(content, "latin1"), tarPadding(size)]) : header;
}

function hardlink(path: string, target: string): Buffer {
  return flagged(path, "1", target);
}

function flagged(path: string, flag: string, target = ""): Buffer {
  const header = tarHeader({ path, type: "link", mode: 0o644, mtimeSeconds: 0, size: 0, target });
  header.write(flag, 156, "latin1");
  header.fill(" ", 148, 156);
  header.write(
    header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0"),
    148,
    "latin1",
  );
  return header;
}

function project(): string {
  const place = join(dir, `project${++count}`);
  mkdirSync(join(place, "src/deep"), { recursive: true });
  mkdirSync(join(place, "empty"));
  writeFileSync(join(place, "src/a.ts"), "export const a = 1;\n");
  writeFileSync(join(place, "src/deep/big"), randomBytes(3_000_000));
  writeFileSync(join(place, "run.sh"), "#!/bin/sh\n");
  chmodSync(join(place, "run.sh"), 0o755);
  utimesSync(join(place, "run.sh"), 1, 1_700_000_000.5);
  writeFileSync(join(place, "zero"), "");
  writeFileSync(Buffer.concat([Buffer.from(`${place}/caf`), Buffer.from([0xe9])]), "latin");
  symlinkSync("../elsewhere", join(place, "src/link"));
  return place;
}

function listing(place: string): string {
  return execFileSync("find", [place, "-mindepth", "1", "-printf", "%P %y %m %s %T@ %l\n"], { encoding: "latin1" })
    .split("\n")
    .map((line) => (line.includes(" d ") ? line.split(" ").slice(0, 3).join(" ") : line.replace(/(\.\d{9})\d+/, "$1")))
    .sort()
    .join("\n");
}

/** What of a walk a view is made from; the root has no name, and no mode that anybody is shown. */
function known(event: WalkEvent): unknown {
  if (event.event === "leave") return event;
  const shown = ({ name, kind, mode, size, mtimeSeconds, mtimeNs, target }: WalkEntry): unknown => [
    name,
    kind,
    name === "" ? 0 : mode,
    size,
    mtimeSeconds,
    mtimeNs,
    target,
  ];
  return { ...event, entry: shown(event.entry), entries: event.entries.map(shown) };
}

describe("a stored codebase", () => {
  verifies("codebase/import-directory", "keeps modes, times, links, empty directories and names that are not UTF-8", async () => {
    const owner = fresh().of("ann");
    const place = project();
    execFileSync("mkfifo", [join(place, "pipe")]);
    let skipped: readonly string[] = [];
    const root = await fill(owner, async (filler) => (skipped = await importDir(filler, place)));
    expect(skipped).toEqual(["pipe"]);
    unlinkSync(join(place, "pipe"));
    expect(root).toMatchObject({ files: 5, entries: 9, bytes: 3_000_000 + 20 + 10 + 5 });
    expect(await findNode(owner.objects, root, ["run.sh"])).toMatchObject({ mode: 0o755, seconds: 1_700_000_000, ns: 500_000_000 });
    const out = join(dir, `out${++count}`);
    mkdirSync(out);
    execFileSync("tar", ["-xf", "-", "-C", out], { input: await tarBytes(owner, root) });
    const whole = (text: string): string => text.replaceAll(/(\d{10})\.\d+/g, "$1");
    expect(whole(listing(out))).toBe(whole(listing(place)));
    expect(readFileSync(join(out, "src/deep/big"))).toEqual(readFileSync(join(place, "src/deep/big")));
  });

  verifies("codebase/import-tar", "a tar, plain or compressed, becomes the same tree as the directory it was made of", async () => {
    const owner = fresh().of("ann");
    const place = project();
    const root = await fill(owner, (filler) => importDir(filler, place));
    linkSync(join(place, "src/a.ts"), join(place, "src/b.ts")); // tar tells it as a hard link
    const tar = execFileSync("tar", ["-C", place, "--format=pax", "-cf", "-", "."], { maxBuffer: 1e8 });
    for (const bytes of [tar, gzipSync(tar), zstdCompressSync(tar)]) {
      const other = await ofTar(owner, bytes);
      const [a, b] = [await findNode(owner.objects, other, ["src", "a.ts"]), await findNode(owner.objects, other, ["src", "b.ts"])];
      expect(a).toEqual(b);
      expect(other).toMatchObject({ files: root.files + 1, entries: root.entries + 1 });
      expect(await findNode(owner.objects, other, ["src", "deep"])).toEqual(await findNode(owner.objects, root, ["src", "deep"]));
    }
  });

  verifies("codebase/one-copy", "equal files are kept once, and equal trees have one hash", async () => {
    const owner = fresh().of("ann");
    const place = project();
    const first = await fill(owner, (filler) => importDir(filler, place));
    const used = await owner.objects.usedBytes();
    const second = await fill(owner, (filler) => importDir(filler, place));
    expect(second).toEqual(first);
    expect(await owner.objects.usedBytes()).toBe(used);
    expect(used).toBe(first.bytes);
  });

  verifies(
    "codebase/hostile-archive",
    "an archive that climbs, writes through a link, names twice, or links outside is refused whole",
    async () => {
      const store = fresh();
      const attempts: Readonly<Record<string, readonly Buffer[]>> = {
        "is a device or a FIFO": [flagged("null", "3")],
        "fifo is a device or a FIFO": [flagged("fifo", "6")],
        "relative, without ..": [entry("../out", "file", "x")],
        "no path inside": [entry("/etc/passwd", "file", "x")],
        "a/../../b is no path": [entry("a/../../b", "file", "x")],
        "a link stands above it": [entry("a", "link", "/etc"), entry("a/passwd", "file", "x")],
        "a file stands above it": [entry("a", "file", "x"), entry("a/b", "file", "x")],
        "it is there already": [entry("a", "file", "x"), entry("a", "file", "y")],
        "a directory stands there": [entry("a/b", "file", "x"), entry("a", "link", "/etc")],
        "etc/shadow is no path": [hardlink("a", "../../etc/shadow")],
        "no file that came before": [hardlink("a", "good2")],
        "which is no file": [entry("l", "link", "/etc/shadow"), hardlink("a", "l")],
        "is no path inside a codebase": [entry("n".repeat(300), "file", "x")],
      };
      for (const [why, pieces] of Object.entries(attempts)) {
        const failed = await ofTar(store.of("ann"), Buffer.concat([entry("good", "file", "g"), ...pieces, tarEnd()])).then(
          () => "imported",
          (error: CorralError) => `${error.code} ${error.message}`,
        );
        expect(failed).toContain(why);
        expect(failed).toMatch(/^codebase_unreadable/);
      }
      await store.sweep("ann", () => Promise.resolve([]));
      expect(await store.of("ann").objects.usedBytes()).toBe(0);
    },
  );

  verifies("codebase/archive-bomb", "an archive that unpacks to more than the owner may have is refused at that size", async () => {
    const store = fresh(8 * 1024 ** 2);
    const zeros = Buffer.alloc(64 * 1024 ** 2);
    const bomb = gzipSync(
      Buffer.concat([tarHeader({ path: "z", type: "file", mode: 0o644, mtimeSeconds: 0, size: zeros.length }), zeros, tarEnd()]),
    );
    await expect(ofTar(store.of("ann"), bomb)).rejects.toMatchObject({ code: "limit_reached" });
    expect(readdirSync(join(dir, String(count), readdirSync(join(dir, String(count)))[0] ?? "", "drafts"))).toEqual([]);
    const cutOff = gzipSync(Buffer.concat([entry("a", "file", "x".repeat(5000)), tarEnd()]));
    await expect(ofTar(store.of("ann"), cutOff.subarray(0, cutOff.length - 12))).rejects.toMatchObject({ code: "codebase_unreadable" });
    await expect(ofTar(store.of("ann"), Buffer.from("this is no archive at all".repeat(40)))).rejects.toMatchObject({
      code: "codebase_unreadable",
    });
  });

  verifies("codebase/owners-apart", "an owner's content is neither found nor counted by another", async () => {
    const store = fresh(1000);
    const [ann, bob] = [store.of("ann"), store.of("bob")];
    const { hash, size } = await ann.objects.putBlob({ content: [Buffer.from("secret")] });
    expect([await ann.objects.hasBlob(hash, size), await bob.objects.hasBlob(hash, size)]).toEqual([true, false]);
    expect(await bob.objects.usedBytes()).toBe(0);
    await expect(ann.objects.putBlob({ content: [Buffer.alloc(995)] })).rejects.toMatchObject({ code: "limit_reached" });
    expect((await bob.objects.putBlob({ content: [Buffer.alloc(995)] })).size).toBe(995);
  });

  verifies("codebase/sweep", "what no version and nobody who writes needs is removed, and nothing else", async () => {
    const store = fresh();
    const owner = store.of("ann");
    const [a, b] = [
      await ofTar(owner, Buffer.concat([entry("d/a", "file", "aaa"), entry("d/same", "file", "s"), tarEnd()])),
      await ofTar(owner, Buffer.concat([entry("d/b", "file", "bbbb"), entry("d/same", "file", "s"), tarEnd()])),
    ];
    const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
    const writer = store.writing("ann", async ({ objects }) => {
      const { hash } = await objects.putBlob({ content: [Buffer.from("under way")], size: 9 });
      await mayEnd;
      return hash;
    });
    let roots: readonly string[] = [a.hash];
    const sweep = store.sweep("ann", () => Promise.resolve(roots));
    roots = [b.hash]; // as of when the writer is done
    end();
    const hash = await writer;
    await sweep;
    expect(await owner.objects.hasBlob(hash, 9)).toBe(false);
    expect((await tarBytes(owner, b)).toString()).toContain("bbbb");
    await expect(tarBytes(owner, a)).rejects.toThrow("ENOENT");
    expect(await owner.objects.usedBytes()).toBe(5);
    await store.forgetOthers(["bob"]);
    expect(readdirSync(join(dir, String(count)))).toEqual([]);
  });

  it("takes a blob that a power loss cut as missing, and mends it", async () => {
    const { objects } = fresh().of("ann");
    const { hash, size } = await objects.putBlob({ content: [Buffer.from("whole")], size: 5 });
    const file = objects.blobFile(hash);
    expect(statSync(file).mode & 0o777).toBe(0o444);
    chmodSync(file, 0o644);
    writeFileSync(file, "");
    expect(await objects.hasBlob(hash, size)).toBe(false);
    await objects.putBlob({ content: [Buffer.from("whole")], size: 5 });
    expect(await objects.hasBlob(hash, size)).toBe(true);
    await expect(
      objects.putBlob({ content: [Buffer.from("whole")], hash: createHash("sha256").update("x").digest("hex") }),
    ).rejects.toMatchObject({ code: "request_invalid" });
    await expect(objects.putBlob({ content: [Buffer.from("whole")], size: 4 })).rejects.toMatchObject({ code: "request_invalid" });
  });

  verifies("codebase/walk", "tells of a stored tree what a walk over the directory tells", async () => {
    const owner = fresh().of("ann");
    const place = project();
    const root = await fill(owner, (filler) => importDir(filler, place));
    const flat = async (walk: AsyncIterable<readonly WalkEvent[]>): Promise<unknown[]> => {
      const all: unknown[] = [];
      for await (const batch of walk) all.push(...batch.map(known));
      return all;
    };
    const onDisk = await flat(decodeWalk(directTool([], guestProgram())(["walk", "--codebase", place]).stdout));
    const stored = await flat(walkEvents(owner.objects, root));
    expect(stored).toEqual(onDisk);
    expect(stored).toHaveLength(8);
  });

  verifies("codebase/import-race", "a directory that becomes a link while it is read leads nowhere", async () => {
    const owner = fresh().of("ann");
    const place = join(dir, `race${++count}`);
    const outside = join(dir, `outside${count}`);
    for (const made of [place, outside, join(place, "d")]) mkdirSync(made);
    writeFileSync(join(outside, "secret"), "outside");
    writeFileSync(join(place, "d/inside"), "inside");
    const swap = { on: true };
    const swapping = (async () => {
      while (swap.on) {
        renameSync(join(place, "d"), join(place, "real"));
        symlinkSync(outside, join(place, "d"));
        await new Promise((resolve) => setImmediate(resolve));
        unlinkSync(join(place, "d"));
        renameSync(join(place, "real"), join(place, "d"));
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    let links = 0;
    // On a machine where the two keep step it takes longer until a link is met.
    for (let i = 0; i < 300 || (links === 0 && i < 20_000); i += 1) {
      const root = await fill(owner, (filler) => importDir(filler, place)).catch((error: unknown) => {
        expect(["codebase_unreadable"]).toContain((error as CorralError).code);
        return undefined;
      });
      if (root === undefined) continue;
      const d = await findNode(owner.objects, root, ["d"]);
      if (d?.kind === "link") links += 1;
      for await (const { path } of entriesBelow(owner.objects, root, { path: "", deep: true })) expect(path).not.toContain("secret");
    }
    swap.on = false;
    await swapping;
    expect(links).toBeGreaterThan(0);
    expect(existsSync(join(outside, "secret"))).toBe(true);
    expect(() => readlinkSync(join(place, "d"))).toThrow("EINVAL");
  });

  it("a draft is what a plain map of paths is, whatever is done to it", async () => {
    const { objects } = fresh().of("ann");
    const name = fc.constantFrom("a", "b", "c");
    const path = fc.array(name, { minLength: 1, maxLength: 3 });
    const step = fc.record({ act: fc.constantFrom("put", "dir", "remove", "store"), path });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        const map = new Map<string, "file" | "dir">();
        let draft = await TreeDraft.over(objects);
        for (const { act, path: names } of steps) {
          const at = names.join("/");
          const above = names.slice(1).map((_, index) => names.slice(0, index + 1).join("/"));
          const blocked = above.some((parent) => map.get(parent) === "file");
          if (act === "store") draft = await TreeDraft.over(objects, await draft.write());
          else if (act === "remove") {
            const there = map.has(at);
            for (const key of [...map.keys()]) if (key === at || key.startsWith(`${at}/`)) map.delete(key);
            expect(await draft.remove(names)).toBe(there);
          } else {
            const taken = blocked || (act === "put" ? map.get(at) === "dir" : map.get(at) === "file");
            const node = { kind: "file", mode: 0o644, seconds: 0, ns: 0, size: 0, hash: "0".repeat(64) } as const;
            const done = await (act === "put" ? draft.put(names, node) : draft.putDir(names, { mode: 0o755, seconds: 0, ns: 0 })).then(
              () => true,
              (error: unknown) => !(error instanceof PathTakenError),
            );
            expect(done).toBe(!taken);
            if (!taken) for (const parent of above) map.set(parent, "dir");
            if (!taken) map.set(at, act === "put" ? "file" : "dir");
          }
        }
        const root = await draft.write();
        const found: [string, string][] = [];
        for await (const { path: at, node } of entriesBelow(objects, root, { path: "", deep: true })) found.push([at, node.kind]);
        expect(found.toSorted()).toEqual([...map].toSorted());
        expect([root.entries, draft.entries, root.files]).toEqual([
          map.size,
          map.size,
          [...map.values()].filter((kind) => kind === "file").length,
        ]);
      }),
      { numRuns: 150 },
    );
  });
});
