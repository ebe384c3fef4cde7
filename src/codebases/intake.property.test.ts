// Archives that lie at random - names, links, sizes, pax records, compression, cut anywhere - against the intake of codebases. It takes
// one whole or refuses it by name; nothing outside the store is touched, and what it took it gives back the same.

import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, expect } from "vitest";
import { fuzzed } from "../../test/fuzz/budget.ts";
import { verifies } from "../../test/verifies.ts";
import { CorralError } from "../api/errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../base/tar-writer.ts";
import { TreeDraft } from "./draft.ts";
import { Filler } from "./filler.ts";
import { importTar } from "./import-tar.ts";
import type { DirNode } from "./nodes.ts";
import { entriesBelow, tarOf } from "./read.ts";
import { CodebaseStore, type OwnerObjects } from "./store.ts";

const QUOTA_BYTES = 1024 ** 2;
const TOLD: readonly string[] = ["codebase_unreadable", "limit_reached"];

let dir: string;
let fence: string;
beforeAll(() => {
  dir = mkdtempSync("/tmp/corral-intake-");
  mkdirSync(join(dir, "fence", "in"), { recursive: true });
  writeFileSync(join(dir, "fence", "in", "canary"), "canary");
  symlinkSync("in", join(dir, "fence", "link"));
  fence = around();
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** All that lies beside the store. */
function around(): string {
  const paths = ["", ...readdirSync(dir, { recursive: true, encoding: "utf8" }).filter((name) => !name.startsWith("store/"))].sort();
  return JSON.stringify(
    paths.map((path) => {
      const { mode, size, mtimeMs, nlink } = lstatSync(join(dir, path));
      return path === "" || path === "store" ? path : [path, mode, size, mtimeMs, nlink];
    }),
  );
}

// ---- what is tried ----

const name = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom("a", "b", "c", "A", "d e", "\xe9", "\n") },
  { weight: 1, arbitrary: fc.constantFrom("..", ".", "", "n".repeat(300), "x\0y", "\\", "C:", ".wh.a", ".wh..wh..opq") },
);
const path = fc
  .tuple(fc.constantFrom("", "", "", "", "./", "/", "../", "fence/", "//"), fc.array(name, { minLength: 1, maxLength: 4 }))
  .map(([start, names]) => start + names.join("/"));
const number = fc.oneof(
  { weight: 4, arbitrary: fc.nat(5_000).map((size) => size.toString(8).padStart(11, "0")) },
  fc.constantFrom("", "77777777777", "-1", "0x10", "\x80\0\0\0\0\0\0\0\0\0\0\x01", "\xff".repeat(12), "9"),
);
const record = fc
  .tuple(
    fc.constantFrom(
      "path",
      "linkpath",
      "size",
      "mtime",
      "uid",
      "GNU.sparse.major",
      "SCHILY.xattr.trusted.overlay.opaque",
      "hdrcharset",
      "x",
    ),
    fc.oneof(path, fc.constantFrom("0", "7", "99999999999999999999", "1.5", "-1", "y", "BINARY")),
    fc.constantFrom(0, 0, 0, 0, 1, -3),
  )
  .map(([key, value, lie]) => {
    const rest = ` ${key}=${value}\n`;
    const length = rest.length + String(rest.length + 2).length;
    return `${length + lie}${rest}`;
  });

/** A header of which some fields say what they like, with a sum that is right. */
function header(at: string, changes: readonly (readonly [number, string])[], size = 0): Buffer {
  const made = tarHeader({ path: "x", type: "file", mode: 0o644, mtimeSeconds: 5, size });
  made.fill(0, 0, 100);
  made.write(at.slice(0, 100), 0, "latin1");
  for (const [offset, text] of changes) made.write(text, offset, "latin1");
  made.fill(" ", 148, 156);
  const sum = made.reduce((total, byte) => total + byte, 0);
  made.write(sum.toString(8).padStart(6, "0"), 148, "latin1");
  return made;
}

const padded = (text: string): Buffer => Buffer.concat([Buffer.from(text, "latin1"), tarPadding(text.length)]);
const file = fc.tuple(path, fc.string({ maxLength: 700 })).map(([at, text]) => {
  const bytes = Buffer.from(text).toString("latin1");
  return Buffer.concat([header(at, [], bytes.length), padded(bytes)]);
});
const other = fc
  .tuple(path, fc.constantFrom("1", "2", "2", "3", "5", "5", "6", "7", "K", "L", "S", "V", "\0"), path)
  .map(([at, flag, target]) =>
    header(at, [
      [156, flag],
      [157, target.slice(0, 100)],
    ]),
  );
const lying = fc.tuple(path, number, fc.constantFrom(124, 100, 136, 345)).map(([at, text, offset]) => header(at, [[offset, text]]));
const extended = fc.tuple(fc.array(record, { maxLength: 3 }), fc.constantFrom("x", "x", "g", "L", "K")).map(([records, flag]) => {
  const text = records.join("");
  return Buffer.concat([header("pax", [[156, flag]], text.length), padded(text)]);
});
const piece = fc.oneof(
  { weight: 5, arbitrary: file },
  { weight: 3, arbitrary: other },
  { weight: 1, arbitrary: lying },
  { weight: 2, arbitrary: extended },
);
const flip = fc.tuple(fc.nat(4_000), fc.nat(255));
const archive = fc
  .tuple(
    fc.array(piece, { maxLength: 8 }),
    fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, fc.array(flip, { maxLength: 3 })),
    fc.constantFrom<"plain" | "gzip" | "zstd">("plain", "plain", "gzip", "zstd"),
    fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, fc.double({ min: 0, max: 1, noNaN: true })),
    fc.boolean(),
  )
  .map(([pieces, flips, packed, kept, isLate]) => {
    const spoil = (bytes: Buffer): Buffer => {
      for (const [at, byte] of flips) if (bytes.length > 0) bytes[at % bytes.length] = byte;
      return bytes;
    };
    const plain = Buffer.concat([...pieces, tarEnd()]);
    const pack = (bytes: Buffer): Buffer => (packed === "plain" ? bytes : packed === "gzip" ? gzipSync(bytes) : zstdCompressSync(bytes));
    // What is spoiled before it is packed still unpacks.
    const whole = isLate ? spoil(pack(plain)) : pack(spoil(plain));
    return whole.subarray(0, Math.ceil(whole.length * kept));
  });

async function* cut(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

async function imported(owner: OwnerObjects, stream: AsyncIterable<Uint8Array>): Promise<DirNode> {
  const draft = await TreeDraft.over(owner.objects);
  await importTar(new Filler(draft, owner.objects), stream);
  const root = await draft.write();
  await owner.objects.flush();
  return root;
}

/** Of one archive: whether it was taken. */
async function tried(owner: OwnerObjects, bytes: Uint8Array, size: number): Promise<boolean> {
  let root: DirNode;
  try {
    root = await imported(owner, cut(bytes, size));
  } catch (error) {
    if (!(error instanceof CorralError) || !TOLD.includes(error.code)) throw error;
    return false;
  }
  for await (const { path: at } of entriesBelow(owner.objects, root, { path: "", deep: true })) {
    const names = at.split("/");
    expect(
      names.every((one) => one !== "" && one !== "." && one !== ".." && one.length <= 255 && !one.includes("\0")),
      JSON.stringify(at),
    ).toBe(true);
  }
  expect(root.bytes).toBeLessThanOrEqual(QUOTA_BYTES);
  expect((await imported(owner, tarOf(owner.objects, root))).hash).toBe(root.hash);
  return true;
}

verifies(
  "codebase/hostile-archive",
  "archives that lie at random are taken whole or refused by name, and nothing outside the store changes",
  async () => {
    const store = new CodebaseStore(join(dir, "store"), { quotaBytes: QUOTA_BYTES });
    fence = around();
    const owner = store.of("ann");
    const met = { taken: 0, refused: 0 };
    await fuzzed(
      fc.asyncProperty(archive, fc.integer({ min: 1, max: 3_000 }), async (bytes, size) => {
        met[(await tried(owner, bytes, size)) ? "taken" : "refused"] += 1;
        expect(around()).toBe(fence);
        if ((met.taken + met.refused) % 100 === 0) await store.sweep("ann", () => Promise.resolve([]));
      }),
      150,
    );
    expect(Math.min(met.taken, met.refused)).toBeGreaterThan(20);
    await store.sweep("ann", () => Promise.resolve([]));
    expect(await owner.objects.usedBytes()).toBe(0);
  },
  60_000,
);
