import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, type TestContext } from "vitest";
import type { Policy, Rule } from "../api/policy.ts";
import { failure, isRoot, openLab, snapshot, type Lab } from "../../test/fixtures/delta-lab.ts";
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
});
