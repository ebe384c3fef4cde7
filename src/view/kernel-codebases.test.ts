import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ops } from "../../test/conformance/view.ts";
import { openLab, policyOf, type LabMode, type ViewLab } from "../../test/fixtures/view-lab.ts";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import type { Policy } from "../api/policy.ts";

const MODES: readonly LabMode[] = ["root", "rootless"];
const READ = policyOf(["read", "**"]);
const WRITE = policyOf(["write", "**"]);

async function failure(promise: Promise<unknown>): Promise<{ code: string | undefined; message: string }> {
  try {
    await promise;
  } catch (error) {
    return { code: errorCode(error), message: (error as Error).message };
  }
  return { code: undefined, message: "it did not fail" };
}

describe.each(MODES)("codebases as they come, %s", (mode) => {
  let lab: ViewLab;
  let program: string;
  beforeAll(() => {
    lab = openLab(mode);
    program = lab.build("ops");
  });
  afterAll(() => {
    lab[Symbol.dispose]();
  });

  function base(script = ""): string {
    const dir = mkdtempSync(join(lab.dir, "base-"));
    chmodSync(dir, 0o755);
    execFileSync("bash", ["-eu", "-c", script], { cwd: dir, stdio: ["ignore", "ignore", "inherit"] });
    copyFileSync(program, join(dir, "ops"));
    chmodSync(join(dir, "ops"), 0o755);
    return dir;
  }

  async function ask(
    dir: string,
    policy: Policy,
    lines: readonly (readonly string[])[],
    presetDirs: readonly string[] = [],
  ): Promise<string[]> {
    const delta = lab.delta(await lab.engine.prepare({ base: dir, policy, presetDirs }));
    return await ops({ run: async (argv, input = "") => delta.run(argv, { input }) }, lines);
  }

  verifies("view/special-files", "FIFOs, sockets and devices of a codebase are never reachable, whatever the level", async () => {
    const dir = base(
      "mkfifo pipe; mknod null c 1 3; mknod disk b 7 0; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'; mkfifo gone.none",
    );
    for (const policy of [READ, WRITE]) {
      const rules = { rules: [...policy.rules, { pattern: "*.none", permission: "none" as const }] };
      const prepared = await lab.engine.prepare({ base: dir, policy: rules });
      expect(prepared.remarks).toEqual([expect.stringContaining("4 FIFOs, sockets and devices")]);
      const names = ["pipe", "null", "disk", "sock"];
      const stats = await ask(
        dir,
        rules,
        names.map((name) => ["lstat", name]),
      );
      for (const stat of stats) expect(stat).toMatch(/^ok mode=100000 .* size=0 /);
      expect(
        await ask(
          dir,
          rules,
          names.map((name) => ["open", name, "r"]),
        ),
      ).toEqual(names.map(() => "EACCES"));
      expect(await ask(dir, rules, [["lstat", "gone.none"]])).toEqual(["ENOENT"]);
    }
  });

  verifies(
    "view/names-are-bytes",
    "a name is its bytes: newlines, invalid UTF-8, backslashes and 255 bytes are read inside as they stand",
    async () => {
      const names = ["new\nline", "\xff\xfe\x80", "back\\slash", "a b", "-rf", "n".repeat(255), "é"];
      const dir = base();
      mkdirSync(Buffer.from(`${dir}/d\xff\n`, "latin1"));
      for (const name of names) writeFileSync(Buffer.from(`${dir}/d\xff\n/${name}`, "latin1"), "content");
      expect(
        await ask(
          dir,
          READ,
          names.map((name) => ["read", `d\xff\n/${name}`]),
        ),
      ).toEqual(names.map(() => "ok content"));
      expect(await ask(dir, policyOf(["read", "**"], ["none", "é"]), [["read", "d\xff\n/é"]])).toEqual(["ok content"]); // one byte é is not two bytes é
    },
  );

  it("shows links as they are, also loops and links that lead nowhere", async () => {
    const dir = base(
      "ln -s self self; ln -s ../../../../etc/shadow out; ln -s gone none; mkdir d; ln -s .. d/up; echo hidden > x.hid; ln -s x.hid to-hidden; printf c > c; ln -s c to-c",
    );
    const policy = policyOf(["read", "**"], ["none", "*.hid"]);
    const lines = [
      ["read", "self"],
      ["readlink", "out"],
      ["read", "none"],
      ["read", "to-hidden"],
      ["readlink", "to-hidden"],
      ["read", "to-c"],
      ["read", "d/up/d/up/c"],
    ];
    expect(await ask(dir, policy, lines)).toEqual(["ELOOP", "ok ../../../../etc/shadow", "ENOENT", "ENOENT", "ok x.hid", "ok c", "ok c"]);
  });

  verifies(
    "view/links-are-paths",
    "a file with two names is judged by the name that is asked, and its link count tells of no other",
    async () => {
      const dir = base("printf c > a.txt; ln a.txt b.hid; ln a.txt c.view");
      const policy = policyOf(["read", "**"], ["none", "*.hid"], ["view", "*.view"]);
      expect(
        await ask(dir, policy, [
          ["read", "a.txt"],
          ["lstat", "b.hid"],
          ["read", "c.view"],
          ["list", "."],
        ]),
      ).toEqual(["ok c", "ENOENT", "EACCES", "ok a.txt c.view ops"]);
      expect((await ask(dir, policy, [["lstat", "a.txt"]]))[0]).toContain("nlink=1 ");
    },
  );

  it("drops set-id bits and keeps execute bits", async () => {
    const dir = base("cp /bin/true suid; chmod 6755 suid; printf x > plain; chmod 6644 plain");
    for (const policy of [READ, WRITE]) {
      const [suid, plain] = await ask(dir, policy, [
        ["lstat", "suid"],
        ["lstat", "plain"],
      ]);
      expect(suid).toMatch(/^ok mode=100[57]55 /);
      expect(plain).toMatch(/^ok mode=100[46]44 /);
    }
  });

  it("reads a file that only its owner may read, when the policy says read", async () => {
    const dir = base("printf secret > own; chmod 600 own; mkdir d; printf x > d/f; chmod 700 d");
    expect(
      await ask(dir, READ, [
        ["read", "own"],
        ["read", "d/f"],
        ["open", "own", "w"],
      ]),
    ).toEqual(["ok secret", "ok x", "EACCES"]);
  });

  it("takes no overlay mark of a codebase for its own", async () => {
    const dir = base("mkdir d secrets; printf visible > d/f; printf secret > secrets/k; printf m > meta");
    const mark =
      "import os,sys; os.chdir(sys.argv[1]); p=sys.argv[2]+'.overlay.'; os.setxattr('meta',p+'metacopy',b''); os.setxattr('meta',p+'redirect',b'/secrets/k'); os.setxattr('d',p+'redirect',b'/secrets'); os.setxattr('d',p+'opaque',b'y')";
    for (const prefix of ["trusted", "user"]) execFileSync("python3", ["-c", mark, dir, prefix]);
    const policy = policyOf(["read", "**"], ["none", "secrets/"]);
    expect(
      await ask(dir, policy, [
        ["read", "meta"],
        ["read", "d/f"],
        ["read", "d/k"],
        ["list", "d"],
      ]),
    ).toEqual(["ok m", "ok visible", "ENOENT", "ok f"]);
  });

  it("shows what is opened below a hidden directory, and only the way to it", async () => {
    const dir = base("mkdir -p a/b/c a/x a/empty; printf 1 > a/b/c/open; printf 2 > a/b/shut; printf 3 > a/x/shut; mkdir -p none/at/all");
    const policy = policyOf(["read", "**"], ["none", "/a"], ["none", "/none"], ["write", "/a/b/c/open"], ["read", "/none/at/all/nothing"]);
    const lines = [
      ["list", "."],
      ["list", "a"],
      ["list", "a/b"],
      ["read", "a/b/c/open"],
      ["open", "a/b/c/open", "w"],
      ["lstat", "a/b/shut"],
      ["mkdir", "a/x"],
      ["unlink", "a/b/c/open"],
    ];
    expect(await ask(dir, policy, lines)).toEqual(["ok a ops", "ok b", "ok c", "ok 1", "ok", "ENOENT", "EACCES", "EACCES"]);
  });

  verifies(
    "view/preset-dirs",
    "directories that a preset wants are made when they are absent and the policy lets them be written",
    async () => {
      const policy = policyOf(["read", "**"], ["write", "/output/**"], ["write", "/tmp/**"], ["write", "/file/**"]);
      const dir = base("mkdir tmp; printf x > tmp/old; printf f > file");
      const lines = [
        ["list", "."],
        ["open", "output/new", "excl"],
        ["open", "tmp/new", "excl"],
        ["list", "tmp"],
        ["lstat", "file"],
        ["mkdir", "notwritable/x"],
      ];
      const [root, output, tmp, listed, file, other] = await ask(dir, policy, lines, ["/output", "/tmp", "/file", "/notwritable"]);
      expect([root, output, tmp, listed, other]).toEqual(["ok file ops output tmp", "ok", "ok", "ok new old", "ENOENT"]);
      expect(file).toContain("mode=100");
    },
  );

  it("an empty policy shows an empty directory", async () => {
    const dir = base("mkdir d; printf x > d/f");
    const delta = lab.delta(await lab.engine.prepare({ base: dir, policy: { rules: [] } }));
    expect(delta.run(["/bin/ls", "-a"]).stdout).toBe(".\n..\n");
    expect(delta.run(["/bin/sh", "-c", "echo x > new"]).stderr).toContain("Permission denied");
  });

  it("shows a directory on which something is mounted empty, and says so; without root, refuses by its path", async () => {
    const dir = base("mkdir m below; printf under > m/under");
    execFileSync("mount", ["-t", "tmpfs", "none", join(dir, "m")]);
    try {
      writeFileSync(join(dir, "m", "over"), "over");
      if (mode === "rootless") {
        const hidden = policyOf(["write", "**"], ["none", "/m"]);
        for (const policy of [WRITE, hidden])
          expect(await failure(lab.engine.prepare({ base: dir, policy }))).toMatchObject({
            code: "codebase_unreadable",
            message: expect.stringContaining("mounted at /m "),
          });
        return;
      }
      const prepared = await lab.engine.prepare({ base: dir, policy: WRITE });
      expect(prepared.remarks).toEqual([expect.stringContaining("/m")]);
      expect(
        await ask(dir, WRITE, [
          ["list", "m"],
          ["read", "m/under"],
          ["read", "m/over"],
          ["open", "m/new", "excl"],
          ["rmdir", "m"],
        ]),
      ).toEqual(["ok", "ENOENT", "ENOENT", "EACCES", "EPERM"]);
    } finally {
      execFileSync("umount", [join(dir, "m")]);
    }
  });

  it("never shows Corral's own staging of a commit", async () => {
    const dir = base("mkdir .corral-commit-abc d d/.corral-commit-x; printf s > .corral-commit-abc/s");
    expect(
      await ask(dir, READ, [
        ["list", "."],
        ["lstat", ".corral-commit-abc"],
        ["list", "d"],
      ]),
    ).toEqual(["ok d ops", "ENOENT", "ok .corral-commit-x"]);
  });

  verifies("view/base-untouched", "no write inside reaches the codebase", async () => {
    const dir = base("mkdir -p d/e; printf x > d/f; printf y > g; ln -s g l; chmod 600 d/f");
    const state = (): string =>
      execFileSync("bash", ["-c", "find . -printf '%p %m %u %g %s %T@ %C@ %i %n %l\\n' | sort; cat d/f g"], { cwd: dir, encoding: "utf8" });
    const before = state();
    const lines = [
      ["open", "d/f", "trunc"],
      ["open", "g", "append", "1"],
      ["write", "1", "more"],
      ["chmod", "d", "700"],
      ["rename", "d/f", "d/e/f"],
      ["unlink", "l"],
      ["mkdir", "new"],
      ["rename", "d/e", "moved"],
      ["setxattr", "g", "user.x"],
      ["utimens", "g", "set"],
      ["truncate", "g"],
      ["mmap", "g", "w"],
      ["tmpfile", ".", "made"],
      ["rmdir", "d"],
    ];
    const answers = await ask(dir, WRITE, lines);
    expect(answers.filter((answer) => answer !== "ok" && answer !== "EXDEV" && answer !== "ENOTEMPTY")).toEqual([]);
    expect(state()).toBe(before);
  });

  verifies("view/bad-codebase-told", "what is no readable directory is refused by name", async () => {
    const dir = base("printf x > f");
    expect(await failure(lab.engine.prepare({ base: join(dir, "f"), policy: READ }))).toMatchObject({
      code: "codebase_unreadable",
      message: expect.stringContaining("not a directory"),
    });
    expect(await failure(lab.engine.prepare({ base: join(dir, "absent"), policy: READ }))).toMatchObject({ code: "codebase_not_found" });
    expect(await failure(lab.engine.prepare({ base: join(dir, "f", "g"), policy: READ }))).toMatchObject({ code: "codebase_not_found" });
  });

  it("follows a link to the codebase itself", async () => {
    const dir = base("printf x > f");
    execFileSync("ln", ["-s", dir, `${dir}-link`]);
    const prepared = await lab.engine.prepare({ base: `${dir}-link`, policy: READ });
    expect(prepared.mount().dataOnly).toEqual([dir]);
  });

  it("survives a codebase that changes while it is walked", async () => {
    const dir = base("mkdir stays; printf x > stays/f");
    const script = "while :; do mkdir -p go/a/b; echo x > go/a/b/f; echo y > go/g; ln -sf x go/l; rm -rf go; done";
    execFileSync("bash", ["-c", `(${script}) >/dev/null 2>&1 & echo $! > ../churn-${mode}.pid`], { cwd: dir });
    try {
      for (let i = 0; i < 10; i++) expect(await ask(dir, READ, [["read", "stays/f"]])).toEqual(["ok x"]);
    } finally {
      execFileSync("bash", ["-c", `kill -9 $(cat ../churn-${mode}.pid)`], { cwd: dir });
    }
  });
});

describe("codebases of other users, rootless", () => {
  let lab: ViewLab;
  beforeAll(() => {
    lab = openLab("rootless");
  });
  afterAll(() => {
    lab[Symbol.dispose]();
  });

  verifies(
    "view/unreadable-named",
    "something visible that cannot be read is refused by its path, something hidden is no matter",
    async () => {
      const dir = lab.codebase("mkdir -p d/closed; printf x > d/own; printf y > ok; chmod 600 d/own; chmod 700 d/closed");
      // Ids that the user namespace does not map: what belongs to another user of the machine.
      for (const path of ["d/own", "d/closed"]) chownSync(join(dir, path), 4242, 4242);
      expect(await failure(lab.engine.prepare({ base: dir, policy: READ }))).toMatchObject({
        code: "codebase_unreadable",
        message: expect.stringContaining("/d/own"),
      });
      expect(await failure(lab.engine.prepare({ base: dir, policy: policyOf(["read", "**"], ["none", "/d/own"]) }))).toMatchObject({
        code: "codebase_unreadable",
        message: expect.stringContaining("/d/closed"),
      });
      const { remarks } = await lab.engine.prepare({
        base: dir,
        policy: policyOf(["read", "**"], ["none", "/d/own"], ["none", "/d/closed"]),
      });
      expect(remarks).toEqual([]);
      chmodSync(dir, 0o700);
      chownSync(dir, 4242, 4242);
      expect(await failure(lab.engine.prepare({ base: dir, policy: READ }))).toMatchObject({ code: "codebase_unreadable" });
    },
  );
});
