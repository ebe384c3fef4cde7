// Reads what tar programs write, and refuses what only attackers write.

import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { readTar, TarError } from "./tar-reader.ts";
import { tarEnd, tarHeader, tarPadding } from "./tar-writer.ts";

async function* cut(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function all(bytes: Buffer, size = 700): Promise<readonly (readonly [string, string, number, string])[]> {
  const found: (readonly [string, string, number, string])[] = [];
  for await (const entry of readTar(cut(bytes, size))) {
    const pieces: Uint8Array[] = [];
    for await (const piece of entry.content()) pieces.push(piece);
    found.push([entry.path, entry.type, entry.mode, entry.type === "file" ? Buffer.concat(pieces).toString() : entry.target]);
  }
  return found;
}

function file(path: string, content: string): Buffer {
  const header = tarHeader({ path, type: "file", mode: 0o644, mtimeSeconds: 1, size: content.length });
  return Buffer.concat([header, Buffer.from(content), tarPadding(content.length)]);
}

/** A header with bytes put over it, and its checksum made right again. */
function forged(
  over: readonly (readonly [number, string])[],
  base = tarHeader({ path: "x", type: "file", mode: 0o644, mtimeSeconds: 0, size: 0 }),
): Buffer {
  for (const [at, text] of over) base.write(text, at, "latin1");
  base.fill(" ", 148, 156);
  base.write(
    base
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0"),
    148,
    "latin1",
  );
  return base;
}

function pax(records: string, flag = "x"): Buffer {
  const header = forged([
    [124, records.length.toString(8).padStart(11, "0")],
    [156, flag],
  ]);
  return Buffer.concat([header, Buffer.from(records, "latin1"), tarPadding(records.length)]);
}

describe("a tar stream", () => {
  verifies("codebase/tar-formats", "is read as GNU tar wrote it, in each of its formats", async () => {
    const dir = mkdtempSync("/tmp/corral-tar-");
    const long = `${"d".repeat(90)}/${"e".repeat(120)}`;
    mkdirSync(join(dir, long), { recursive: true });
    writeFileSync(join(dir, long, "f"), "deep");
    writeFileSync(Buffer.concat([Buffer.from(`${dir}/caf`), Buffer.from([0xe9])]), "latin");
    writeFileSync(join(dir, "run"), "#!/bin/sh\n");
    chmodSync(join(dir, "run"), 0o755);
    utimesSync(join(dir, "run"), 5, 1_700_000_000.25);
    symlinkSync("t".repeat(150), join(dir, "link"));
    for (const format of ["pax", "gnu"]) {
      const bytes = execFileSync("tar", ["-C", dir, `--format=${format}`, "--sort=name", "-cf", "-", "."]);
      const found = await all(bytes, 1 + Math.floor(bytes.length / 7));
      const byPath = new Map(found.map((entry) => [entry[0], entry]));
      expect(byPath.get(`./${long}/f`)?.[3]).toBe("deep");
      expect(byPath.get("./caf\xe9")?.[3]).toBe("latin");
      expect(byPath.get("./run")).toEqual(["./run", "file", 0o755, "#!/bin/sh\n"]);
      expect(byPath.get("./link")?.[3]).toBe("t".repeat(150));
      expect(byPath.get("./")?.[1]).toBe("dir");
    }
    rmSync(dir, { recursive: true });
  });

  it("gives back whatever the writer was given", async () => {
    const name = fc.string({
      unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code === 47 ? 48 : code)),
      minLength: 1,
      maxLength: 200,
    });
    const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join("/"));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(path, fc.string({ unit: "grapheme-ascii", maxLength: 1500 })), { maxLength: 5 }),
        fc.integer({ min: 1, max: 2000 }),
        async (files, size) => {
          const bytes = Buffer.concat([...files.map(([at, content]) => file(at, content)), tarEnd()]);
          expect((await all(bytes, size)).map(([at, , , content]) => [at, content])).toEqual(files);
        },
      ),
      { numRuns: 200 },
    );
  });

  verifies(
    "codebase/tar-hostile",
    "sparse files, unknown types, lying sizes and malformed headers are refused by name, and nothing is read on trust",
    async () => {
      const tail = Buffer.concat([file("after", "x"), tarEnd()]);
      const attempts: Readonly<Record<string, Buffer>> = {
        "a sparse file": forged([[156, "S"]]),
        "unknown type": forged([[156, "Q"]]),
        "but has a size": forged([
          [156, "5"],
          [124, "00000001000"],
        ]),
        "has a size": forged([
          [156, "1"],
          [124, "00000001000"],
        ]),
        "wrong checksum": Buffer.concat([Buffer.alloc(148, 1), Buffer.alloc(364)]),
        "a size that is no number": pax("16 size=0x1000 \n"),
        "a time that is no number": pax("12 mtime=ab\n"),
        malformed: pax("99 path=x\n"),
        "is malformed": pax("nothing of that kind"),
        sparse: pax("22 GNU.sparse.major=1\n"),
        "a global header": pax("10 path=x\n", "g"),
        "a header of": forged([
          [156, "x"],
          [124, "77777777777"],
        ]),
        "too many headers": Buffer.concat(Array.from({ length: 9 }, () => pax("10 path=x\n"))),
        "too large or negative": forged([[124, "\xff"]]),
      };
      for (const [why, bytes] of Object.entries(attempts)) {
        const failed = await all(Buffer.concat([bytes, tail])).then(
          () => "read",
          (error: unknown) => (error instanceof TarError ? error.message : String(error)),
        );
        expect(failed).toContain(why);
      }
    },
  );

  it("is an error when it is cut, wherever that is in an entry", async () => {
    const bytes = file("name", "content");
    for (const length of [1, 511, 512 + 3, 512 + 7]) await expect(all(bytes.subarray(0, length))).rejects.toThrow("ends in the middle");
    expect(await all(bytes)).toHaveLength(1);
  });

  it("skips content that nobody reads", async () => {
    const names: string[] = [];
    for await (const entry of readTar(cut(Buffer.concat([file("a", "x".repeat(5000)), file("b", ""), tarEnd()]), 999)))
      names.push(entry.path);
    expect(names).toEqual(["a", "b"]);
  });
});

it("reads every time that is written: fractions of a second, times before 1970, times that octal digits do not hold", async () => {
  for (const [mtimeSeconds, mtimeNs] of [
    [1, 500_000_000],
    [0, 1],
    [-1, 500_000_000],
    [-2, 999_999_999],
    [-7, 0],
    [8_589_934_592, 0],
  ] as const) {
    const bytes = Buffer.concat([tarHeader({ path: "a", type: "file", mode: 0o644, mtimeSeconds, mtimeNs, size: 0 }), tarEnd()]);
    for await (const entry of readTar(cut(bytes, 700))) expect(entry).toMatchObject({ mtimeSeconds, mtimeNs });
  }
});
