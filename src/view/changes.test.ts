import {
  chmodSync,
  closeSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, describe, expect, it, type TestContext } from "vitest";
import { isRoot, lines, openLab, setXattr, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";

let lab: Lab;
afterEach(() => lab.close());

/** A mounted overlay over `files`; what `act` does in it is the delta. */
async function delta(context: TestContext, files: Record<string, string>, act: (merged: string) => void): Promise<void> {
  if (!isRoot) context.skip("mounting an overlay needs root");
  lab = openLab(files);
  await lab.start();
  act(lab.merged);
}

async function seen(): Promise<string[]> {
  return lines((await lab.changes()).changes);
}

describe("changes of a delta", () => {
  verifies(
    "view/delta-lists-changes",
    "adds, modifications and deletions of files, links and directories are listed, sorted",
    async (context) => {
      await delta(context, { a: "1", "d/b": "2", "d/c": "3", "gone/x": "4" }, (at) => {
        writeFileSync(join(at, "a"), "changed");
        writeFileSync(join(at, "d/new"), "n");
        mkdirSync(join(at, "empty"));
        symlinkSync("a", join(at, "link"));
        unlinkSync(join(at, "d/c"));
        rmSync(join(at, "gone"), { recursive: true });
      });
      expect(await seen()).toEqual([
        "modify file /a",
        "delete file /d/c",
        "add file /d/new",
        "add dir /empty",
        "delete dir /gone",
        "delete file /gone/x",
        "add link /link",
      ]);
    },
  );

  verifies(
    "view/delta-ignores-touch",
    "touch, an open for writing, the same bytes written again and a chmod there and back are no changes",
    async (context) => {
      await delta(context, { a: "same", b: "same", c: "same", "d/e": "x" }, (at) => {
        utimesSync(join(at, "a"), 1, 1);
        closeSync(openSync(join(at, "b"), "r+"));
        writeFileSync(join(at, "c"), "same");
        chmodSync(join(at, "d/e"), 0o600);
        chmodSync(join(at, "d/e"), 0o644);
        lutimesSync(join(at, "d"), 1, 1);
      });
      expect(await seen()).toEqual([]);
    },
  );

  it("a chmod alone is a change of mode; with new content it is a modification", async (context) => {
    await delta(context, { a: "1", b: "1" }, (at) => {
      chmodSync(join(at, "a"), 0o755);
      writeFileSync(join(at, "b"), "2");
      chmodSync(join(at, "b"), 0o755);
    });
    const { changes } = await lab.changes();
    expect(lines(changes)).toEqual(["mode file /a", "modify file /b"]);
    expect(changes.map((change) => change.mode)).toEqual([0o755, 0o755]);
  });

  it("a file renamed as it was is a rename; one that was also written is a deletion and an addition", async (context) => {
    await delta(context, { a: "content", b: "content", "d/c": "content" }, (at) => {
      renameSync(join(at, "a"), join(at, "d/a2"));
      renameSync(join(at, "b"), join(at, "b2"));
      writeFileSync(join(at, "b2"), "other");
      renameSync(join(at, "d/c"), join(at, "d/c2"));
    });
    expect(await seen()).toEqual(["delete file /b", "add file /b2", "rename file /d/a2 from /a", "rename file /d/c2 from /d/c"]);
  });

  it("a renamed directory is a new directory with renamed files, whatever moved inside it again", async (context) => {
    await delta(context, { "d/a": "1", "d/s/b": "2", "d/s/c": "3", "e/x": "4" }, (at) => {
      renameSync(join(at, "d"), join(at, "n"));
      renameSync(join(at, "n/s"), join(at, "s"));
      unlinkSync(join(at, "s/c"));
      renameSync(join(at, "e"), join(at, "n/e"));
    });
    expect(await seen()).toEqual([
      "delete dir /d",
      "delete dir /d/s",
      "delete file /d/s/c",
      "delete dir /e",
      "add dir /n",
      "rename file /n/a from /d/a",
      "add dir /n/e",
      "rename file /n/e/x from /e/x",
      "add dir /s",
      "rename file /s/b from /d/s/b",
    ]);
  });

  it("a directory that was removed and made again shows only what differs", async (context) => {
    await delta(context, { "d/a": "1", "d/b": "2", "d/s/c": "3" }, (at) => {
      rmSync(join(at, "d"), { recursive: true });
      mkdirSync(join(at, "d"));
      writeFileSync(join(at, "d/a"), "1");
      mkdirSync(join(at, "d/s"));
    });
    expect(await seen()).toEqual(["delete file /d/b", "delete file /d/s/c"]);
  });

  it("two directories that changed places are told by what is in them", async (context) => {
    await delta(context, { "a/f": "1", "a/only": "o", "b/f": "2" }, (at) => {
      renameSync(join(at, "a"), join(at, "t"));
      renameSync(join(at, "b"), join(at, "a"));
      renameSync(join(at, "t"), join(at, "b"));
    });
    expect(await seen()).toEqual(["modify file /a/f", "modify file /b/f", "rename file /b/only from /a/only"]);
  });

  it("a file that became a directory, a directory that became a link, a link that became a file", async (context) => {
    await delta(context, { f: "1", "d/x": "2", t: "3" }, (at) => {
      unlinkSync(join(at, "f"));
      mkdirSync(join(at, "f"));
      writeFileSync(join(at, "f/in"), "");
      rmSync(join(at, "d"), { recursive: true });
      symlinkSync("t", join(at, "d"));
    });
    expect(await seen()).toEqual(["modify link /d", "delete file /d/x", "modify dir /f", "add file /f/in"]);
  });

  it("hard links are files of their own", async (context) => {
    await delta(context, { a: "1" }, (at) => {
      writeFileSync(join(at, "n"), "x");
      linkSync(join(at, "n"), join(at, "m"));
      linkSync(join(at, "a"), join(at, "a2"));
    });
    expect(await seen()).toEqual(["add file /a2", "add file /m", "add file /n"]);
  });

  verifies("view/wh-names-ordinary", "names that other layer formats reserve are ordinary names and delete nothing", async (context) => {
    await delta(context, { x: "1", "d/y": "2" }, (at) => {
      for (const name of [".wh.x", ".wh...", "d/.wh..wh..opq"]) writeFileSync(join(at, name), "");
    });
    expect(await seen()).toEqual(["add file /.wh...", "add file /.wh.x", "add file /d/.wh..wh..opq"]);
  });

  it("names are bytes", async (context) => {
    await delta(context, {}, (at) => {
      for (const name of ["\xff\xfe", "new\nline", "\x1b[31m"]) writeFileSync(Buffer.from(`${at}/${name}`, "latin1"), "");
    });
    expect(await seen()).toEqual(["add file /\x1b[31m", "add file /new\nline", "add file /\xff\xfe"]);
  });

  it("special files are of type other", async (context) => {
    await delta(context, {}, (at) => execFileSync("mkfifo", [join(at, "pipe")]));
    expect(await seen()).toEqual(["add other /pipe"]);
  });

  it("directories that a preset makes are no changes, what is made in them is", async (context) => {
    await delta(context, { "output/": "" }, (at) => writeFileSync(join(at, "output/x"), "1"));
    rmSync(join(lab.base, "output"), { recursive: true });
    const policy = { rules: [{ pattern: "**", permission: "write" as const }], dirs: ["/output", "/tmp"] };
    lab.unmount();
    await restart(lab);
    expect(lines((await lab.changes(policy)).changes)).toEqual(["add file /output/x"]);
  });
});

/** The manifest again, of the base as it is now, over the same delta. */
async function restart(one: Lab): Promise<void> {
  await one.start();
  one.unmount();
}

describe("marks that no sandbox can make", () => {
  const forge = (path: string, name: string, value: string): void => setXattr(path, `trusted.overlay.${name}`, value);
  const cases: readonly (readonly [string, (upper: string) => void])[] = [
    ["a redirect that climbs", (at) => (mkdirSync(join(at, "e")), forge(join(at, "e"), "redirect", "/../etc"))],
    ["a redirect to nothing", (at) => (mkdirSync(join(at, "e")), forge(join(at, "e"), "redirect", "/nothing"))],
    ["a redirect to a hidden directory", (at) => (mkdirSync(join(at, "e")), forge(join(at, "e"), "redirect", "/secrets"))],
    [
      "a file without data that leads to a hidden one",
      (at) => (writeFileSync(join(at, "e"), ""), forge(join(at, "e"), "metacopy", ""), forge(join(at, "e"), "redirect", "/secrets/key")),
    ],
    ["a file without data and without a lower one", (at) => (writeFileSync(join(at, "e"), ""), forge(join(at, "e"), "metacopy", ""))],
    ["an opaque file", (at) => (writeFileSync(join(at, "e"), ""), forge(join(at, "e"), "opaque", "y"))],
    ["an opaque mark of another value", (at) => (mkdirSync(join(at, "e")), forge(join(at, "e"), "opaque", "z"))],
    ["a whiteout mark in an ordinary directory", (at) => (writeFileSync(join(at, "a"), ""), forge(join(at, "a"), "whiteout", "y"))],
    ["a mark nobody knows", (at) => (writeFileSync(join(at, "e"), ""), forge(join(at, "e"), "surprise", "y"))],
  ];
  verifies("view/forged-marks-refused", "a delta with a forged or impossible overlay mark is refused as a whole", async (context) => {
    if (!isRoot) context.skip("writing trusted attributes needs root");
    for (const [name, act] of cases) {
      lab = openLab({ a: "1", "secrets/key": "k" });
      await lab.start();
      lab.unmount();
      act(lab.upper);
      const policy = {
        rules: [
          { pattern: "**", permission: "write" as const },
          { pattern: "/secrets", permission: "none" as const },
        ],
      };
      await expect(lab.changes(policy), name).rejects.toMatchObject({ code: "delta_malformed" });
      lab.close();
    }
  });

  it("whiteouts as attributes count where the directory says that it holds them", async (context) => {
    await delta(context, { "d/a": "1", "d/b": "2" }, () => undefined);
    lab.unmount();
    mkdirSync(join(lab.upper, "d"));
    writeFileSync(join(lab.upper, "d/a"), "");
    forge(join(lab.upper, "d"), "opaque", "x");
    forge(join(lab.upper, "d/a"), "whiteout", "y");
    expect(await seen()).toEqual(["delete file /d/a"]);
  });

  it("attributes that a program set itself are no marks", async (context) => {
    await delta(context, { "d/a": "1" }, (at) => setXattr(join(at, "d"), "user.overlay.opaque", "y"));
    expect(await seen()).toEqual([]);
    expect(readFileSync(join(lab.merged, "d/a"), "utf8")).toBe("1");
  });
});
