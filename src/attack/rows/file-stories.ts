// Class file: reaching past the policy by names, links, renames, copies and forged layer marks. The table of every call and level is the view's
// conformance suite; these are the stories that take several steps.

import { strict as assert } from "node:assert";
import { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Policy } from "../../api/policy.ts";
import type { Bed, StoryRow } from "../row.ts";
import { inside } from "../say.ts";

const SECRET = "the-secret-value";

/** Everything writable but what the stories protect. */
const POLICY: Policy = {
  rules: [
    { pattern: "**", permission: "write" },
    { pattern: "/private", permission: "none" },
    { pattern: "*.hidden", permission: "none" },
    { pattern: "/seen.txt", permission: "view" },
    { pattern: "/tool", permission: "view" },
    { pattern: "/kept/**", permission: "read" },
  ],
};
const OPEN: Policy = { rules: [{ pattern: "**", permission: "write" }] };

/** A codebase with one of each protected thing, and plain neighbours. */
function project(bed: Bed, name: string): string {
  const dir = join(bed.scratch, name);
  mkdirSync(join(dir, "private", "keys"), { recursive: true });
  mkdirSync(join(dir, "box"), { recursive: true });
  mkdirSync(join(dir, "kept"), { recursive: true });
  mkdirSync(join(dir, "output"), { recursive: true });
  writeFileSync(join(dir, "private", "keys", "a"), SECRET);
  writeFileSync(join(dir, "box", "x.hidden"), SECRET);
  writeFileSync(join(dir, "seen.txt"), SECRET);
  writeFileSync(join(dir, "kept", "k.txt"), "kept");
  writeFileSync(join(dir, "plain.txt"), "plain");
  writeFileSync(join(dir, "tool"), `#!/bin/sh\necho ${SECRET}\n`, { mode: 0o755 });
  symlinkSync("/etc/shadow", join(dir, "to-shadow"));
  symlinkSync("private/keys/a", join(dir, "to-hidden"));
  symlinkSync("../../../../../../etc/hostname", join(dir, "to-above"));
  symlinkSync("loop-b", join(dir, "loop-a"));
  symlinkSync("loop-a", join(dir, "loop-b"));
  return dir;
}

/** Every entry below `dir` with its attributes and bytes. */
function treeOf(dir: string): string {
  const lines = readdirSync(dir, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const path = join(dir, name);
      const { mode, uid, gid, size, mtimeMs, ctimeMs, ino, nlink } = lstatSync(path);
      const bytes = lstatSync(path).isFile() ? readFileSync(path, "base64") : "";
      return JSON.stringify([name, mode, uid, gid, size, mtimeMs, ctimeMs, ino, nlink, bytes]);
    });
  return lines.join("\n");
}

/** The lines must not bring the secret out, under the policy; with everything open the same lines must. */
function noSecret(id: StoryRow["id"], what: string, lines: readonly string[]): StoryRow {
  const run = async (bed: Bed, policy: Policy): Promise<string> => {
    await using sandbox = await bed.open({ dir: project(bed, "base"), policy });
    let told = "";
    for (const line of lines) {
      const result = await sandbox.exec({ command: `cd /workspace; ${line}`, timeoutMs: 30_000 });
      told += Buffer.concat([result.stdout, result.stderr]).toString("latin1");
    }
    return told;
  };
  return {
    id,
    what,
    attempt: async (bed) => assert.ok(!(await run(bed, POLICY)).includes(SECRET), "the secret came out"),
    control: {
      kind: "twin",
      prove: async (bed) =>
        assert.ok(
          (await run(bed, OPEN)).includes(SECRET),
          "with everything open the secret does not come out either: the attempt does not work",
        ),
    },
  };
}

export const FILE_STORIES: readonly StoryRow[] = [
  noSecret("file/rename-ancestor", "move a directory above a hidden path, then read under the new name", [
    "mv private p2; cat p2/keys/a",
    "mv box b2; cat b2/x.hidden",
    "mkdir q; mv box q/; cat q/box/x.hidden b2/x.hidden",
  ]),
  noSecret("file/link-to-hidden", "read a hidden file by a symbolic link, old or new", [
    "cat to-hidden",
    "ln -s private/keys/a new; cat new",
    "ln private/keys/a hard; cat hard",
  ]),
  noSecret("file/exec-around", "run a view file by the loader, by its interpreter, by copy", [
    "./tool",
    "/bin/sh ./tool",
    "cp tool /tmp/t && sh /tmp/t",
    "sh < tool",
    "exec 3<tool; cat <&3",
  ]),
  noSecret("file/copy-out", "copy the bytes of a view file by other calls", [
    "cp --reflink=auto seen.txt /tmp/c && cat /tmp/c",
    "dd if=seen.txt 2>/dev/null",
    "tar cf - seen.txt | cat",
    "head -c 100 seen.txt",
    "mv seen.txt moved.txt; cat moved.txt",
    "python3 -c 'import os;f=os.open(\"seen.txt\",0);print(os.read(f,99))'",
  ]),
  noSecret("file/path-spellings", "other spellings of a hidden path", [
    "cat private/../private/keys/a",
    "cat private//keys///a ./private/./keys/./a",
    "cat /proc/self/root/workspace/private/keys/a",
    "cat /proc/self/cwd/private/keys/a",
    "cd output && cat ../private/keys/a",
  ]),
  {
    id: "file/hidden-guess",
    what: "create, mkdir, symlink and rename onto guessed names, half of them hidden",
    async attempt(bed) {
      const dir = project(bed, "guess");
      for (let i = 0; i < 40; i += 2) writeFileSync(join(dir, "box", `g${i}`), "x");
      const policy: Policy = { rules: [...POLICY.rules, { pattern: "/box/g*", permission: "none" }] };
      await using sandbox = await bed.open({ dir, policy });
      const told = await inside(
        sandbox,
        "cd /workspace/box; i=0; while [ $i -lt 40 ]; do r=''; cat g$i 2>&1 | grep -q 'No such' && r=$r.n; (echo x > g$i) 2>/dev/null && r=$r.c; rm g$i 2>/dev/null && r=$r.r; mkdir g$i 2>/dev/null && r=$r.m; rmdir g$i 2>/dev/null && r=$r.d; ln -s q g$i 2>/dev/null && r=$r.l; rm g$i 2>/dev/null; echo $r; i=$((i+1)); done",
        { timeoutMs: 60_000 },
      );
      assert.equal(new Set(told.split("\n")).size, 1, `names that exist and names that do not answer differently:\n${told}`);
    },
    control: {
      kind: "twin",
      async prove(bed) {
        const dir = project(bed, "guess-open");
        for (let i = 0; i < 40; i += 2) writeFileSync(join(dir, "box", `g${i}`), "x");
        await using sandbox = await bed.open({ dir, policy: { rules: [...POLICY.rules, { pattern: "/box/g*", permission: "view" }] } });
        const told = await inside(
          sandbox,
          "cd /workspace/box; i=0; while [ $i -lt 40 ]; do test -e g$i && echo y || echo n; i=$((i+1)); done",
        );
        assert.equal(new Set(told.split("\n")).size, 2);
      },
    },
  },
  {
    id: "file/hidden-rmdir",
    what: "remove and move a directory whose only entries are hidden",
    async attempt(bed) {
      const dir = project(bed, "rmdir");
      await using sandbox = await bed.open({ dir, policy: POLICY });
      assert.equal(await inside(sandbox, "cd /workspace; ls -A box | wc -l; rmdir box; echo $?; mkdir box; ls -A box | wc -l"), "0\n0\n0");
      assert.notEqual(
        await inside(sandbox, "cd /workspace; rm -rf kept 2>/dev/null; echo $?; cat kept/k.txt"),
        "0\nkept",
        "a read-only file was destroyed",
      );
      assert.equal(readFileSync(join(dir, "box", "x.hidden"), "utf8"), SECRET, "the base changed");
    },
    control: {
      kind: "twin",
      async prove(bed) {
        await using sandbox = await bed.open({ dir: project(bed, "rmdir-open"), policy: OPEN });
        assert.notEqual(
          await inside(sandbox, "cd /workspace; rmdir box 2>/dev/null; echo $?"),
          "0",
          "a directory with a visible entry was removed",
        );
      },
    },
  },
  {
    id: "file/link-out",
    what: "links of the codebase that lead to the node",
    async attempt(bed) {
      await using sandbox = await bed.open({ dir: project(bed, "links"), policy: POLICY });
      const told = await inside(sandbox, "cd /workspace; cat to-shadow; cat to-above; cat loop-a; ls -l /proc/1/root/ 2>&1; echo end", {
        anyExit: true,
      });
      assert.ok(!told.includes("root:"), "the node's shadow file was read");
    },
    control: {
      kind: "planted",
      async prove(bed) {
        await using sandbox = await bed.open({ dir: project(bed, "links-planted"), policy: POLICY });
        assert.equal(await inside(sandbox, "cd /workspace; echo planted > /tmp/flag; ln -s /tmp/flag to-flag; cat to-flag"), "planted");
      },
    },
  },
  {
    id: "file/stale-cwd-swap",
    what: "swap the directory one stands in for a link to the node",
    async attempt(bed) {
      await using sandbox = await bed.open({ dir: project(bed, "swap"), policy: POLICY });
      const told = await inside(
        sandbox,
        "cd /workspace/output; mv ../output ../other; ln -s /etc ../output; cat shadow 2>/dev/null; echo x >> shadow; cat ../output/shadow 2>/dev/null; cat ../other/shadow",
        { anyExit: true },
      );
      // Where an overlay cannot rename a directory, mv copies it and the one that was stood in is gone.
      assert.match(told, /^x?$/);
    },
    control: {
      kind: "naive",
      async prove(bed) {
        const dir = project(bed, "swap-naive");
        // A server that joins strings and opens on the node: after the swap it reads the node's file.
        renameSync(join(dir, "output"), join(dir, "other"));
        symlinkSync("/etc", join(dir, "output"));
        assert.ok(readFileSync(join(dir, "output", "passwd"), "utf8").includes("root:"));
      },
    },
  },
  {
    id: "file/layers-reach",
    what: "search for the layers of the view",
    async attempt(bed) {
      await using sandbox = await bed.open({ dir: project(bed, "layers"), policy: POLICY });
      const told = await inside(
        sandbox,
        "find / -xdev \\( -name upper -o -name masks -o -name deltas -o -name 'x.hidden' \\) 2>/dev/null; find /workspace -name 'x.hidden'; ls -d /var/lib/corral 2>/dev/null",
        { anyExit: true, timeoutMs: 60_000 },
      );
      assert.equal(told, "");
    },
    control: {
      kind: "planted",
      async prove(bed) {
        await using sandbox = await bed.open({ dir: project(bed, "layers-planted"), policy: POLICY });
        assert.equal(await inside(sandbox, "mkdir /tmp/upper; find /tmp -name upper"), "/tmp/upper");
      },
    },
  },
  {
    id: "file/forge-markers",
    what: "set the marks that overlay layers are made of",
    async attempt(bed) {
      await using sandbox = await bed.open({ dir: project(bed, "forge"), policy: POLICY });
      const set = (name: string): string => `python3 -c 'import os;os.setxattr("plain.txt","${name}",b"y")' 2>&1 | tail -1`;
      for (const name of ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "security.capability"]) {
        assert.match(await inside(sandbox, `cd /workspace; ${set(name)}`, { anyExit: true }), /PermissionError|OSError/, name);
      }
      assert.equal(
        await inside(
          sandbox,
          `cd /workspace; ${set("user.overlay.redirect")}; ls private x.hidden 2>/dev/null; cat private/keys/a 2>/dev/null; echo end`,
          { anyExit: true },
        ),
        "end",
      );
    },
    control: {
      kind: "plain",
      async prove(bed) {
        const dir = project(bed, "forge-plain");
        const result = await bed.outside([
          "/usr/bin/python3",
          "-c",
          'import os,sys;os.setxattr(sys.argv[1],"trusted.overlay.opaque",b"y")',
          join(dir, "plain.txt"),
        ]);
        assert.equal(result.exitCode, 0, "no mark of trusted.* can be set outside either");
      },
    },
  },
  {
    id: "file/alias-inode",
    what: "one inode under two names, one of them hidden",
    async attempt(bed) {
      const dir = project(bed, "alias");
      linkSync(join(dir, "plain.txt"), join(dir, "other.hidden"));
      await using sandbox = await bed.open({ dir, policy: POLICY });
      assert.equal(
        await inside(sandbox, "cd /workspace; cat plain.txt; stat -c %h plain.txt; ls other.hidden 2>/dev/null; echo end"),
        "plain1\nend",
        "the link count tells of the hidden name",
      );
    },
    control: {
      kind: "twin",
      async prove(bed) {
        const dir = project(bed, "alias-open");
        linkSync(join(dir, "plain.txt"), join(dir, "other.hidden"));
        assert.equal(statSync(join(dir, "plain.txt")).nlink, 2);
      },
    },
  },
  {
    id: "file/special-base",
    what: "a FIFO of the codebase reaches a process of the node",
    async attempt(bed) {
      const dir = project(bed, "special");
      await bed.outside(["mkfifo", "-m", "666", join(dir, "pipe")]);
      await using sandbox = await bed.open({ dir, policy: POLICY });
      const result = await sandbox.exec({ command: "timeout 2 sh -c 'echo through > /workspace/pipe'", timeoutMs: 10_000 });
      assert.notEqual(result.exitCode, 0, "a write went through the node's FIFO");
    },
    control: {
      kind: "naive",
      async prove(bed) {
        const dir = project(bed, "special-naive");
        await bed.outside(["mkfifo", "-m", "666", join(dir, "pipe")]);
        assert.equal((await bed.outside(["/bin/sh", "-c", 'cat "$0" & echo through > "$0"; wait', join(dir, "pipe")])).stdout, "through\n");
      },
    },
  },
  {
    id: "file/base-untouched",
    what: "write, truncate, delete, chmod and rename all over the view",
    async attempt(bed) {
      const dir = project(bed, "untouched");
      const before = treeOf(dir);
      await using sandbox = await bed.open({ dir, policy: OPEN });
      await inside(
        sandbox,
        "cd /workspace; echo z > plain.txt; : > seen.txt; rm -rf private; chmod 777 kept; mv box b3; touch -d 2001-01-01 tool; ln plain.txt l2",
        { anyExit: true },
      );
      const after = treeOf(dir);
      assert.equal(after, before);
    },
    control: {
      kind: "naive",
      async prove(bed) {
        const dir = project(bed, "untouched-naive");
        await bed.outside(["/bin/sh", "-c", 'echo z > "$0/plain.txt"', dir]);
        assert.equal(readFileSync(join(dir, "plain.txt"), "utf8"), "z\n");
      },
    },
  },
];
