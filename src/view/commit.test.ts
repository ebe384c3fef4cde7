import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, type TestContext } from "vitest";
import { failure, isRoot, lines, openLab, setXattr, snapshot, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";

let lab: Lab;
afterEach(() => lab.close());

async function delta(context: TestContext, files: Record<string, string>, act: (merged: string, base: string) => void): Promise<void> {
  if (!isRoot) context.skip("mounting an overlay needs root");
  lab = openLab(files);
  await lab.start();
  act(lab.merged, lab.base);
}

describe("commit", () => {
  verifies(
    "view/commit-applies",
    "after a commit the codebase is what the merged view was, and nothing else is left in it",
    async (context) => {
      await delta(context, { a: "1", "d/b": "2", "d/c": "3", "gone/x": "4", f: "file", "dir/in": "5", keep: "k" }, (at) => {
        writeFileSync(join(at, "a"), "changed");
        chmodSync(join(at, "d/b"), 0o755);
        unlinkSync(join(at, "d/c"));
        rmSync(join(at, "gone"), { recursive: true });
        mkdirSync(join(at, "n/e/w"), { recursive: true });
        writeFileSync(join(at, "n/e/w/file"), "new");
        symlinkSync("../a", join(at, "n/link"));
        unlinkSync(join(at, "f"));
        mkdirSync(join(at, "f"));
        writeFileSync(join(at, "f/in"), "x");
        rmSync(join(at, "dir"), { recursive: true });
        writeFileSync(join(at, "dir"), "now a file");
        renameSync(join(at, "keep"), join(at, "n/kept"));
        writeFileSync(Buffer.from(`${at}/\xff\nname`, "latin1"), "bytes");
      });
      const merged = snapshot(lab.merged);
      const { committed, whole } = await lab.commit();
      expect(snapshot(lab.base)).toEqual(merged);
      expect(whole).toBe(true);
      expect(committed.map(({ path }) => path)).toContain("/n/kept");
      expect(readdirSync(join(lab.deltas, readdirSync(lab.deltas)[0] as string))).not.toContain("commit.json");
    },
  );

  it("owners are those of what is replaced, or of the directory above; setgid of a directory is inherited", async (context) => {
    await delta(context, { "d/a": "1", "s/x": "1" }, () => undefined);
    lab.unmount();
    chownSync(join(lab.base, "d"), 1234, 2345);
    chownSync(join(lab.base, "d/a"), 3456, 4567);
    chownSync(join(lab.base, "s"), 1234, 99);
    chmodSync(join(lab.base, "s"), 0o2775);
    await lab.start();
    writeFileSync(join(lab.merged, "d/a"), "2");
    writeFileSync(join(lab.merged, "d/new"), "n");
    mkdirSync(join(lab.merged, "s/n/m"), { recursive: true });
    writeFileSync(join(lab.merged, "s/n/m/f"), "n");
    await lab.commit();
    const ids = (path: string): number[] => [lstatSync(join(lab.base, path)).uid, lstatSync(join(lab.base, path)).gid];
    expect([ids("d/a"), ids("d/new"), ids("s/n/m/f")]).toEqual([
      [3456, 4567],
      [1234, 2345],
      [1234, 99],
    ]);
    expect(lstatSync(join(lab.base, "s/n")).mode & 0o7777).toBe(0o2755);
  });

  it("extended attributes and the mode of a replaced file stay", async (context) => {
    await delta(context, { a: "1" }, () => undefined);
    lab.unmount();
    setXattr(join(lab.base, "a"), "user.note", "kept");
    chmodSync(join(lab.base, "a"), 0o640);
    await lab.start();
    writeFileSync(join(lab.merged, "a"), "2");
    await lab.commit();
    expect(
      execFileSync("python3", ["-c", "import os,sys; print(os.getxattr(sys.argv[1], 'user.note').decode())", join(lab.base, "a")], {
        encoding: "utf8",
      }),
    ).toBe("kept\n");
    expect(statSync(join(lab.base, "a")).mode & 0o777).toBe(0o640);
  });

  it("only the paths asked for are committed, with the new directories they need; the rest can be committed later", async (context) => {
    await delta(context, { a: "1", b: "1", "g/x": "1", "g/y": "1" }, (at) => {
      writeFileSync(join(at, "a"), "2");
      writeFileSync(join(at, "b"), "2");
      mkdirSync(join(at, "n/m"), { recursive: true });
      writeFileSync(join(at, "n/m/f"), "3");
      writeFileSync(join(at, "n/m/g"), "4");
      rmSync(join(at, "g"), { recursive: true });
    });
    const merged = snapshot(lab.merged);
    const first = await lab.commit({ paths: ["/a", "/n/m/f"] });
    expect(first.committed.map(({ path }) => path)).toEqual(["/a", "/n", "/n/m", "/n/m/f"]);
    expect(first.whole).toBe(false);
    expect(lines((await lab.changes()).changes)).toEqual([
      "modify file /b",
      "delete dir /g",
      "delete file /g/x",
      "delete file /g/y",
      "add file /n/m/g",
    ]);
    expect((await failure(lab.commit({ paths: ["/g"] }))).refused[0]).toContain("/g: /g/x in it is left out");
    expect((await failure(lab.commit({ paths: ["/nothing"] }))).code).toBe("request_invalid");
    await lab.commit({ paths: ["/g/"] });
    expect((await lab.commit()).whole).toBe(true);
    expect(snapshot(lab.base)).toEqual(merged);
    expect((await lab.commit()).committed).toEqual([]);
  });

  it("a preset's directory is made in the codebase when something in it is committed", async (context) => {
    await delta(context, { "output/": "" }, (at) => writeFileSync(join(at, "output/x"), "1"));
    rmSync(join(lab.base, "output"), { recursive: true });
    lab.unmount();
    await lab.start();
    lab.unmount();
    const made = { rules: [{ pattern: "**", permission: "write" as const }], dirs: ["/output"] };
    expect((await lab.commit({}, { policy: made })).committed).toEqual([{ path: "/output/x", kind: "add", type: "file" }]);
    expect(snapshot(lab.base)).toEqual(["/output dir 755", "/output/x file 644 1"]);
  });

  it("what is left out keeps its content: the file of the codebase that holds it is not replaced without it", async (context) => {
    await delta(context, { a: "content of a" }, (at) => {
      renameSync(join(at, "a"), join(at, "b"));
      writeFileSync(join(at, "a"), "another");
    });
    expect((await failure(lab.commit({ paths: ["/a"] }))).refused[0]).toContain("/b, which is left out, has its content there");
    await lab.commit();
    expect(snapshot(lab.base)).toEqual(["/a file 644 another", "/b file 644 content of a"]);
  });

  it("a sparse file stays sparse", async (context) => {
    await delta(context, {}, (at) => execFileSync("truncate", ["-s", "8G", join(at, "big")]));
    await lab.commit();
    const { size, blocks } = statSync(join(lab.base, "big"));
    expect(size).toBe(8 * 1024 ** 3);
    expect(blocks).toBeLessThan(100);
  });
});

describe("conflicts", () => {
  verifies(
    "view/commit-conflict",
    "a path that the host changed, made or removed since the start is a conflict; nothing is applied and the host's stays",
    async (context) => {
      await delta(context, { a: "1", b: "1", "d/x": "1", ok: "1", "sub/f": "1" }, (at, base) => {
        for (const name of ["a", "b", "new", "ok", "sub/f"]) writeFileSync(join(at, name), "sandbox");
        rmSync(join(at, "d"), { recursive: true });
        writeFileSync(join(base, "a"), "host");
        unlinkSync(join(base, "b"));
        writeFileSync(join(base, "new"), "host");
        writeFileSync(join(base, "d/more"), "host");
        renameSync(join(base, "sub"), join(base, "old"));
        symlinkSync("/etc", join(base, "sub"));
      });
      const before = snapshot(lab.base);
      const { code, conflicts } = await failure(lab.commit());
      expect(code).toBe("commit_conflict");
      expect(conflicts.map((line) => line.split(":")[0]).sort()).toEqual(["/a", "/b", "/new", "/sub/f"]);
      expect(snapshot(lab.base)).toEqual(before);
      const result = await lab.commit({ partial: true });
      expect(result.committed.map(({ path }) => path)).toEqual(["/d/x", "/ok"]);
      expect(result.conflicts.map(({ path }) => path).sort()).toEqual(["/a", "/b", "/d", "/new", "/sub/f"]);
      expect(readFileSync(join(lab.base, "a"), "utf8")).toBe("host");
      expect(readdirSync(join(lab.base, "d"))).toEqual(["more"]);
      expect(existsSync("/etc/f")).toBe(false);
    },
  );

  it("a file of the same size and time with another inode is a conflict", async (context) => {
    await delta(context, { a: "1" }, (at, base) => {
      writeFileSync(join(at, "a"), "2");
      const { atime, mtime } = statSync(join(base, "a"));
      writeFileSync(join(base, "copy"), "9");
      renameSync(join(base, "copy"), join(base, "a"));
      utimesSync(join(base, "a"), atime, mtime);
    });
    expect((await failure(lab.commit())).code).toBe("commit_conflict");
  });

  it("the codebase directory itself replaced by another is no codebase of this delta", async (context) => {
    await delta(context, { a: "1" }, (at) => writeFileSync(join(at, "n"), "2"));
    lab.unmount();
    renameSync(lab.base, `${lab.base}-old`);
    mkdirSync(lab.base);
    expect((await failure(lab.commit())).code).toBe("commit_failed");
    expect(readdirSync(lab.base)).toEqual([]);
  });
});

describe("a live sandbox", () => {
  it("a sandbox that still writes does not get half a file in", async (context) => {
    await delta(context, { a: "1" }, (at) => writeFileSync(join(at, "a"), "2"));
    const input = lab.input();
    const racing: typeof input.tool = (argv, stdin) => {
      if (argv[1] === "apply") writeFileSync(join(lab.merged, "a"), "3");
      return input.tool(argv, stdin);
    };
    const [{ commitDelta }, { liveTarget }] = await Promise.all([import("./commit.ts"), import("./commit-live.ts")]);
    const commit = { ...input, tool: racing, deltas: lab.deltas, sandboxId: readdirSync(lab.deltas)[0] as string };
    const racingCommit = commitDelta(commit, liveTarget(commit));
    expect((await failure(racingCommit)).code).toBe("sandbox_state");
    expect(snapshot(lab.base)).toEqual(["/a file 644 1"]);
  });
});
