// Class file, the rows about what a codebase is afterwards: entries that land elsewhere, names that other tools take for marks, history that holds
// what the policy hides, a base that its owner changes meanwhile. Each commits to a directory of its own.

import { strict as assert } from "node:assert";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { deflateSync } from "node:zlib";
import type { Policy } from "../../api/policy.ts";
import type { CommitResult, Sandbox } from "../../api/sandbox.ts";
import type { Bed, StoryRow } from "../row.ts";
import { inside, outside } from "../say.ts";

const OPEN: Policy = { rules: [{ pattern: "**", permission: "write" }] };
const SECRET = "the-secret-of-history";

function project(bed: Bed, name: string, files: Readonly<Record<string, string | Uint8Array>>): string {
  const dir = join(bed.scratch, name);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  }
  return dir;
}

/** All names below, sorted; `ls -R` would tell a newline twice. */
const namesOf = (dir: string): string[] => readdirSync(dir, { recursive: true, encoding: "utf8" }).sort();

const commit = (bed: Bed, sandbox: Sandbox): Promise<CommitResult> => bed.corral.deltas.commit(sandbox.id, { acceptFlagged: true });

async function demandCommitted(bed: Bed, sandbox: Sandbox): Promise<void> {
  const { refused, conflicts } = await commit(bed, sandbox);
  assert.deepEqual([...refused, ...conflicts], [], "an ordinary change was not committed");
}

const LINK_LANDS_HERE: StoryRow = {
  id: "file/link-lands-here",
  what: "make a symbolic link, a directory and a FIFO in a subdirectory, then commit",
  async attempt(bed) {
    const dir = project(bed, "lands", { "a/b/kept": "", "b/kept": "" });
    const before = namesOf(dir);
    await using sandbox = await bed.open({ dir, policy: OPEN });
    const made = await inside(
      sandbox,
      "cd /workspace/a/b; ln -s kept new-l; mkdir new-d; mkfifo new-p; find /workspace -name 'new-?' | sort",
    );
    assert.equal(made, "/workspace/a/b/new-d\n/workspace/a/b/new-l\n/workspace/a/b/new-p");
    await inside(sandbox, "rm /workspace/a/b/new-p");
    await demandCommitted(bed, sandbox);
    assert.deepEqual(namesOf(dir), [...before, "a/b/new-d", "a/b/new-l"].sort());
  },
  control: {
    kind: "naive",
    async prove(bed) {
      const dir = project(bed, "lands-naive", { "a/b/kept": "" });
      // Whoever keeps the last name of what is made, and not where, has it land at the top.
      await outside(bed, ["/bin/sh", "-c", 'cd "$0" && ln -s kept "$(basename a/b/new-l)"', dir]);
      assert.ok(namesOf(dir).includes("new-l"));
    },
  },
};

/** A loose object as git writes it. */
function history(): Record<string, Uint8Array | string> {
  const object = Buffer.from(`blob ${SECRET.length}\0${SECRET}`);
  const hash = createHash("sha1").update(object).digest("hex");
  return {
    "plain.txt": "plain",
    ".env": SECRET,
    "sub/.git/HEAD": "ref: refs/heads/main\n",
    ".git/HEAD": "ref: refs/heads/main\n",
    [`.git/objects/${hash.slice(0, 2)}/${hash.slice(2)}`]: deflateSync(object),
  };
}

/** Reads every object that can be found, packed by nothing but zlib. */
const READ_HISTORY =
  'import os,zlib\nfor d,_,fs in os.walk("/workspace"):\n for f in fs:\n  try: b=open(os.path.join(d,f),"rb").read()\n  except OSError: continue\n  try: b=zlib.decompress(b)\n  except zlib.error: pass\n  print(d,f,b)';
const readHistory = (sandbox: Sandbox): Promise<string> => inside(sandbox, ["/usr/bin/env", "python3", "-c", READ_HISTORY]);

const GIT_HISTORY: StoryRow = {
  id: "file/git-history",
  what: "read a hidden file out of the objects of git",
  async attempt(bed) {
    const dir = project(bed, "history", history());
    const policy = await bed.corral.policies.load("agent-safe", { codebaseDir: dir });
    await using sandbox = await bed.open({ dir, policy });
    const told = await readHistory(sandbox);
    assert.match(told, /plain\.txt/);
    assert.ok(!told.includes(SECRET), "the hidden file stands in its history");
    const hides: Policy = { rules: [...OPEN.rules, { pattern: "/.env", permission: "none" }] };
    const warned = await bed.corral.policies.check(hides, dir);
    assert.match(warned, /\.git/, "nobody is told that the history is open");
  },
  control: {
    kind: "planted",
    async prove(bed) {
      const dir = project(bed, "history-open", history());
      await using sandbox = await bed.open({ dir, policy: { rules: [...OPEN.rules, { pattern: "/.env", permission: "none" }] } });
      assert.ok((await readHistory(sandbox)).includes(SECRET), "with .git open its objects do not tell the file either");
    },
  },
};

/** What another tool takes for the marks that `x` is deleted, and that a directory is to be emptied. */
const MARKS = [".wh.plain.txt", ".wh...", ".wh..wh..opq"] as const;

const WH_NAMES: StoryRow = {
  id: "file/wh-names",
  what: "names that other layers take for deletions, committed and shown again",
  async attempt(bed) {
    const dir = project(bed, "marks", { "box/plain.txt": "plain", "plain.txt": "plain" });
    const wanted = [...namesOf(dir), ...MARKS.flatMap((name) => [name, `box/${name}`])].sort();
    const make = MARKS.map((name) => `echo mark > ${name}; echo mark > box/${name}`).join("; ");
    const list = "cd /workspace; find . -mindepth 1 | sort; cat plain.txt box/plain.txt";
    const listed = `${[...wanted].map((name) => `./${name}`).join("\n")}\nplainplain`;
    {
      await using sandbox = await bed.open({ dir, policy: OPEN });
      assert.equal(await inside(sandbox, `cd /workspace; ${make}; ${list}`), listed, "before the commit");
      await demandCommitted(bed, sandbox);
    }
    assert.deepEqual(namesOf(dir), wanted, "in the codebase");
    await using again = await bed.open({ dir, policy: OPEN });
    assert.equal(await inside(again, list), listed, "in the next sandbox");
  },
  control: {
    kind: "naive",
    async prove(bed) {
      const dir = project(bed, "marks-naive", { "plain.txt": "plain", ".wh.plain.txt": "mark" });
      for (const name of namesOf(dir).filter((one) => one.startsWith(".wh."))) rmSync(join(dir, name.slice(".wh.".length)));
      assert.ok(!existsSync(join(dir, "plain.txt")));
    },
  },
};

const BASE = { "both.txt": "old", "edited.txt": "old", "cut.txt": "old", "replaced.txt": "old", "gone.txt": "old" } as const;

const BASE_MOVES: StoryRow = {
  id: "file/base-moves",
  what: "the host edits, cuts, replaces and removes files below a live sandbox",
  async attempt(bed) {
    const dir = project(bed, "moves", BASE);
    await using sandbox = await bed.open({ dir, policy: OPEN });
    await inside(sandbox, "cd /workspace; echo mine > both.txt; cat edited.txt replaced.txt");
    writeFileSync(join(dir, "both.txt"), "theirs");
    writeFileSync(join(dir, "edited.txt"), "new");
    truncateSync(join(dir, "cut.txt"));
    writeFileSync(join(dir, "other"), "new");
    renameSync(join(dir, "other"), join(dir, "replaced.txt"));
    rmSync(join(dir, "gone.txt"));
    for (const name of Object.keys(BASE).filter((one) => one !== "both.txt")) {
      const told = await inside(sandbox, `cat /workspace/${name}`, { anyExit: true });
      assert.ok(["", "old", "new"].includes(told), `${name} reads ${told}`);
    }
    assert.equal(await inside(sandbox, "cat /workspace/both.txt"), "mine");
    // Without `partial` nothing would be applied, and the conflict thrown.
    const { conflicts } = await bed.corral.deltas.commit(sandbox.id, { partial: true });
    assert.deepEqual(
      conflicts.map(({ path }) => path),
      ["/both.txt"],
      "both changed it, and the commit saw no conflict",
    );
    assert.equal(readFileSync(join(dir, "both.txt"), "utf8"), "theirs", "the owner's change is lost");
  },
  control: {
    kind: "accept",
    async prove(bed) {
      const dir = project(bed, "moves-not", BASE);
      await using sandbox = await bed.open({ dir, policy: OPEN });
      await inside(sandbox, "cd /workspace; echo mine > both.txt");
      await demandCommitted(bed, sandbox);
      assert.equal(readFileSync(join(dir, "both.txt"), "utf8"), "mine\n");
    },
  },
};

export const CODEBASE_STORIES: readonly StoryRow[] = [LINK_LANDS_HERE, GIT_HISTORY, WH_NAMES, BASE_MOVES];
