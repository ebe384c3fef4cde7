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
import type { Policy, Rule } from "../api/policy.ts";
import type { CorralError } from "../api/errors.ts";
import { isRoot, lines, openLab, setXattr, snapshot, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";

let lab: Lab;
afterEach(() => lab.close());

async function delta(context: TestContext, files: Record<string, string>, act: (merged: string, base: string) => void): Promise<void> {
  if (!isRoot) context.skip("mounting an overlay needs root");
  lab = openLab(files);
  await lab.start();
  act(lab.merged, lab.base);
}

function policy(...rules: readonly (readonly [Rule["permission"], string])[]): Policy {
  return { rules: [{ pattern: "**", permission: "write" }, ...rules.map(([permission, pattern]) => ({ permission, pattern }))] };
}

/** The error of a commit that must fail, with what it names. */
async function failure(commit: Promise<unknown>): Promise<{ code: string; refused: string[]; conflicts: string[]; message: string }> {
  const error = (await commit.then(
    () => undefined,
    (reason: unknown) => reason,
  )) as CorralError | undefined;
  if (error === undefined) throw new Error("the commit did not fail");
  const { refused = [], conflicts = [] } = (error.details ?? {}) as {
    refused?: { path: string; reason: string }[];
    conflicts?: { path: string; reason: string }[];
  };
  const show = (entries: { path: string; reason: string }[]): string[] => entries.map(({ path, reason }) => `${path}: ${reason}`);
  return { code: error.code, message: error.message, refused: show(refused), conflicts: show(conflicts) };
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

describe("what a commit refuses", () => {
  verifies(
    "view/commit-rejudges",
    "names that the policy hides or does not let be written are refused, whatever the engine let through",
    async (context) => {
      await delta(context, { "src/a": "1", "conf/k": "1" }, (at) => {
        writeFileSync(join(at, "src/a"), "2");
        writeFileSync(join(at, "src/new.key"), "shadow");
        writeFileSync(join(at, ".env"), "shadow");
        writeFileSync(join(at, "conf/k"), "2");
      });
      const rules = policy(["none", "*.key"], ["none", ".env"], ["read", "/conf/**"]);
      const { code, refused } = await failure(lab.commit({}, { policy: rules }));
      expect(code).toBe("commit_refused");
      expect(refused).toEqual([
        "/.env: the policy hides /.env (rule `none .env`)",
        "/conf/k: the policy gives no more than `read` on /conf/k (rule `read /conf/**`)",
        "/src/new.key: the policy hides /src/new.key (rule `none *.key`)",
      ]);
      expect((await lab.commit({ partial: true }, { policy: rules })).committed.map(({ path }) => path)).toEqual(["/src/a"]);
    },
  );

  verifies(
    "view/commit-hidden-children",
    "a directory that holds hidden or read-only entries is not removed, replaced or renamed; they stay as they are",
    async (context) => {
      for (const [rule, act] of [
        [["none", "secret"], (at: string) => rmSync(join(at, "d"), { recursive: true })],
        [["read", "secret"], (at: string) => rmSync(join(at, "d"), { recursive: true })],
        [["none", "secret"], (at: string) => renameSync(join(at, "d"), join(at, "e"))],
        [["none", "secret"], (at: string) => (rmSync(join(at, "d"), { recursive: true }), writeFileSync(join(at, "d"), "file"))],
        [["none", "secret"], (at: string) => (rmSync(join(at, "d"), { recursive: true }), mkdirSync(join(at, "d")))],
      ] as const) {
        await delta(context, { "d/s/secret": "S", "d/secret": "T", "d/open": "1" }, act);
        const rules = policy(rule);
        const before = snapshot(lab.base);
        const { code, refused } = await failure(lab.commit({}, { policy: rules }));
        expect(code).toBe("commit_refused");
        expect(refused.join("\n")).toContain("/d: the directory");
        expect(snapshot(lab.base)).toEqual(before);
        await lab.commit({ partial: true }, { policy: rules });
        expect(readFileSync(join(lab.base, "d/secret"), "utf8") + readFileSync(join(lab.base, "d/s/secret"), "utf8")).toBe("TS");
        expect(existsSync(join(lab.base, "e/secret"))).toBe(false);
        lab.close();
      }
    },
  );

  verifies(
    "view/commit-special-entry",
    "FIFOs, sockets, devices, setuid and setgid files and file capabilities are refused, each named",
    async (context) => {
      await delta(context, {}, (at) => {
        execFileSync("mkfifo", [join(at, "pipe")]);
        execFileSync("mknod", [join(at, "null"), "c", "1", "3"]);
        for (const name of ["suid", "sgid", "caps", "fine"]) writeFileSync(join(at, name), "x");
        chmodSync(join(at, "suid"), 0o4755);
        chmodSync(join(at, "sgid"), 0o2755);
      });
      lab.unmount();
      execFileSync("python3", [
        "-c",
        "import os,sys; os.setxattr(sys.argv[1], 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))",
        join(lab.upper, "caps"),
      ]);
      const { refused } = await failure(lab.commit());
      expect(refused.map((line) => line.split(":")[0])).toEqual(["/caps", "/null", "/pipe", "/sgid", "/suid"]);
      await lab.commit({ partial: true });
      expect(snapshot(lab.base)).toEqual(["/fine file 644 x"]);
    },
  );

  verifies("view/commit-escaping-link", "links that lead out of the codebase are refused, links within it are kept", async (context) => {
    const bad: Record<string, string> = {
      abs: "/etc/passwd",
      up: "..",
      "d/up2": "../..",
      "d/far": "../../etc",
      winding: "d/../../x",
      deep: "d/x/../..",
    };
    const good: Record<string, string> = { in: "d/x", "d/back": "../in", dot: ".", "d/side": "./x", dangling: "nowhere/at/all" };
    await delta(context, { "d/x": "1" }, (at) => {
      for (const [name, target] of Object.entries({ ...bad, ...good })) symlinkSync(target, join(at, name));
    });
    const { refused } = await failure(lab.commit());
    expect(refused.map((line) => line.split(":")[0]?.slice(1))).toEqual(Object.keys(bad).sort());
    const { committed } = await lab.commit({ partial: true });
    expect(committed.map(({ path }) => path.slice(1))).toEqual(Object.keys(good).sort());
  });

  it("names that commits need for themselves are refused", async (context) => {
    await delta(context, {}, (at) => {
      mkdirSync(join(at, ".corral-commit-x"));
      writeFileSync(join(at, ".corral-commit-x/go"), "forged");
    });
    const { refused } = await failure(lab.commit());
    expect(refused).toHaveLength(2);
    expect(refused[0]).toContain("belong to Corral");
  });

  verifies(
    "view/commit-metadata-dropped",
    "changes of mode on paths below write are left out and listed, and stop nothing",
    async (context) => {
      await delta(context, { a: "1", b: "1", c: "1" }, (at) => {
        chmodSync(join(at, "a"), 0o777);
        chmodSync(join(at, "b"), 0o755);
        writeFileSync(join(at, "c"), "2");
      });
      const { committed, dropped, refused } = await lab.commit({}, { policy: policy(["read", "/a"]) });
      expect(committed.map(({ path, kind }) => `${kind} ${path}`)).toEqual(["mode /b", "modify /c"]);
      expect([dropped.map(({ path }) => path), refused]).toEqual([["/a"], []]);
      expect([statSync(join(lab.base, "a")).mode & 0o777, statSync(join(lab.base, "b")).mode & 0o777]).toEqual([0o644, 0o755]);
    },
  );

  verifies(
    "view/commit-flags",
    "what will run on the host is flagged and needs its own yes, also where nothing stood before",
    async (context) => {
      await delta(
        context,
        {
          "package.json": '{"scripts":{"test":"t"},"version":"1"}',
          "p/package.json": '{"scripts":{"test":"t"}}',
          "src/a": "1",
          "q/package.json": "{}",
        },
        (at) => {
          for (const name of [
            ".git/hooks/pre-commit",
            ".envrc",
            ".github/workflows/ci.yml",
            ".claude/settings.json",
            ".mcp.json",
            ".vscode/tasks.json",
            "sub/.ENVRC",
          ]) {
            mkdirSync(join(at, name, ".."), { recursive: true });
            writeFileSync(join(at, name), "x");
          }
          symlinkSync("src", join(at, ".husky"));
          writeFileSync(join(at, "package.json"), '{"scripts":{"test":"t"},"version":"2"}');
          writeFileSync(join(at, "p/package.json"), '{"scripts":{"test":"t","postinstall":"evil"}}');
          writeFileSync(join(at, "q/package.json"), "not json");
          writeFileSync(join(at, "src/a"), "2");
        },
      );
      const { code, refused } = await failure(lab.commit());
      expect(code).toBe("commit_refused");
      expect(refused.map((line) => line.split(":")[0])).toEqual([
        "/.claude/settings.json",
        "/.envrc",
        "/.git/hooks/pre-commit",
        "/.github/workflows/ci.yml",
        "/.husky",
        "/.mcp.json",
        "/.vscode/tasks.json",
        "/p/package.json",
        "/q/package.json",
        "/sub/.ENVRC",
      ]);
      const { committed } = await lab.commit({ acceptFlagged: true });
      expect(committed.find(({ path }) => path === "/p/package.json")?.flag).toBe("runs on the host: npm script");
      expect(committed.find(({ path }) => path === "/package.json")?.flag).toBeUndefined();
    },
  );

  it("a sandbox that still writes does not get half a file in", async (context) => {
    await delta(context, { a: "1" }, (at) => writeFileSync(join(at, "a"), "2"));
    const input = lab.input();
    const racing: typeof input.tool = (argv, stdin) => {
      if (argv[1] === "apply") writeFileSync(join(lab.merged, "a"), "3");
      return input.tool(argv, stdin);
    };
    const { commitDelta } = await import("./commit.ts");
    const racingCommit = commitDelta({ ...input, tool: racing, deltas: lab.deltas, sandboxId: readdirSync(lab.deltas)[0] as string });
    expect((await failure(racingCommit)).code).toBe("sandbox_state");
    expect(snapshot(lab.base)).toEqual(["/a file 644 1"]);
  });
});
