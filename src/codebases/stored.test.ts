// Stored codebases under a view: the rows that every view passes, over a mask that leads to blobs; and commits that become versions.

import { mkdirSync, mkdtempSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect } from "vitest";
import { checkMatrix, compareHidden } from "../../test/conformance/view.ts";
import { failedStories } from "../../test/conformance/view-tools.ts";
import type { TwinBed } from "../../test/conformance/view-twin.ts";
import { type LabMode, openLab, policyOf, type ViewLab } from "../../test/fixtures/view-lab.ts";
import { verifies } from "../../test/verifies.ts";
import type { CommitOptions } from "../api/corral.ts";
import type { CorralError } from "../api/errors.ts";
import type { Policy } from "../api/policy.ts";
import type { CommitResult, StoredBase } from "../api/sandbox.ts";
import { compilePolicy } from "../policy/compile.ts";
import { readChanges } from "../view/changes.ts";
import { commitDelta } from "../view/commit.ts";
import { readRebased } from "../view/kept.ts";
import type { PreparedView } from "../view/kernel.ts";
import { shownMode } from "../view/plan.ts";
import type { StoredCodebases } from "../view/stored.ts";
import { TreeDraft } from "./draft.ts";
import { Filler } from "./filler.ts";
import { importDir } from "./import-dir.ts";
import type { DirNode } from "./nodes.ts";
import { entriesBelow } from "./read.ts";
import { CodebaseStore, rootNode } from "./store.ts";
import { type Head, storedCodebases } from "./stored.ts";

const MODES: readonly LabMode[] = ["root", "rootless"];
const ID = "sblab00000000000000000";

interface Codebase {
  readonly store: CodebaseStore;
  readonly stored: StoredCodebases;
  readonly versions: Head[];
}

function openStore(dir: string): Codebase {
  const store = new CodebaseStore(join(dir, "codebases"));
  const versions: Head[] = [];
  const stored = storedCodebases(store, {
    current: () => Promise.resolve(versions.at(-1)),
    add: (_, { expected, tree }) => {
      if (versions.at(-1)?.number !== expected) return Promise.resolve(false);
      versions.push(headOf(expected + 1, tree));
      return Promise.resolve(true);
    },
  });
  return { store, stored, versions };
}

function headOf(number: number, { hash: root, bytes, files, entries }: DirNode): Head {
  return { number, root, bytes, files, entries };
}

async function imported({ store, versions }: Codebase, dir: string): Promise<StoredBase> {
  const { objects } = store.of("ann");
  const draft = await TreeDraft.over(objects);
  await importDir(new Filler(draft, objects), dir);
  const head = headOf(versions.length + 1, await draft.write());
  versions.push(head);
  return { codebaseId: "cb1", version: head.number, ownerId: "ann", root: head.root };
}

/** `path content`, of links `path -> target`. */
async function content({ store, versions }: Codebase): Promise<readonly string[]> {
  const { objects } = store.of("ann");
  const lines: string[] = [];
  const head = versions.at(-1);
  if (head === undefined) return [];
  for await (const { path, node } of entriesBelow(objects, rootNode(head), { path: "", deep: true })) {
    if (node.kind === "link") lines.push(`${path} -> ${node.target}`);
    else if (node.kind === "dir") lines.push(`${path}/`);
    else {
      const pieces: Buffer[] = [];
      for await (const piece of objects.readBlob(node.hash)) pieces.push(piece as Buffer);
      lines.push(`${path} ${node.mode.toString(8)} ${Buffer.concat(pieces).toString().trim()}`);
    }
  }
  return lines;
}

describe.each(MODES)("a view of a stored codebase, %s", (mode) => {
  let lab: ViewLab;
  let bed: TwinBed;
  beforeAll(() => {
    lab = openLab(mode);
    const codebase = openStore(lab.dir);
    bed = {
      observe: lab.build("observe"),
      ops: lab.build("ops"),
      emptyCodebase: () => mkdtempSync(join(lab.dir, "base-")),
      enter: async (dir, policy, presetDirs = []) => {
        const base = codebase.stored.tree(await imported(codebase, dir));
        const delta = lab.delta(await lab.engine.prepare({ base, policy, presetDirs }));
        return { run: async (argv, input = "") => delta.run(argv, { input }) };
      },
    };
  });
  afterAll(() => {
    lab[Symbol.dispose]();
  });

  verifies("codebase/view", "every system call answers as over a directory, and hidden is as absent", async () => {
    expect(await checkMatrix(bed)).toEqual([]);
    expect(await compareHidden(bed)).toEqual([]);
  });

  verifies("codebase/view", "git, make, sqlite, tar, python and editors work", async () => {
    expect(await failedStories(bed)).toEqual([]);
  });
});

describe.each(MODES)("a stored root, %s", (mode) => {
  verifies("template/links", "links are followed inside of the tree, and for a bounded number of steps", async () => {
    using lab = openLab(mode);
    const codebase = openStore(lab.dir);
    const dir = lab.codebase(
      "mkdir -p etc usr/bin; echo yes > etc/f; ln -s ../../../../etc/f usr/up; ln -s /usr/up all; ln -s loop loop; ln -s usr bin",
    );
    symlinkSync(`${"usr/../".repeat(300)}etc/f`, join(dir, "long"));
    const tree = codebase.stored.tree(await imported(codebase, dir));
    const read = async (path: string): Promise<string | undefined> => (await tree.read(path, 100))?.toString();
    expect([await read("/etc/f"), await read("usr/up"), await read("/all"), await read("/bin/up")]).toEqual(Array(4).fill("yes\n"));
    for (const path of ["/loop", "/long", "/etc", "/etc/f/x", "/none"])
      expect([path, await read(path), await tree.hasFile(path)]).toEqual([path, undefined, false]);
    expect([await tree.read("/etc/f", 3), await tree.hasFile("/etc/f")]).toEqual([undefined, true]);
  });

  verifies(
    "template/root-layers",
    "shows a stored tree with its own modes under a skeleton, and nothing of it belongs to the sandbox",
    async () => {
      using lab = openLab(mode);
      const codebase = openStore(lab.dir);
      const dir = lab.codebase(
        "mkdir -p etc usr/bin home; echo own > etc/own; echo tree > etc/both; echo s > etc/shadow; chmod 600 etc/shadow; ln -s ../etc/own usr/l; cp /bin/true usr/bin/t; chmod 4755 usr/bin/t",
      );
      const skeleton = lab.codebase("mkdir -p etc home/user; echo skeleton > etc/both", "skeleton");
      const root = await lab.engine.prepareRoot(codebase.stored.tree(await imported(codebase, dir)));
      const layers = {
        kind: "overlay",
        target: "/",
        lowers: [skeleton, ...root.lowers],
        dataOnly: root.dataOnly,
        options: root.options,
        exec: true,
      } as const;
      const view = { root: { uid: 0, gid: 0, mode: 0o755 }, mount: (delta: { upper: string; work: string }) => ({ ...layers, ...delta }) };
      const { stdout } = lab
        .delta(view as unknown as PreparedView)
        .run([
          "/bin/sh",
          "-c",
          "cat etc/own etc/both usr/l; cat etc/shadow 2>&1; usr/bin/t && echo ran; stat -c '%a %u' usr/bin/t etc/shadow; ls; touch etc/own 2>&1",
        ]);
      expect(stdout.split("\n").map((line) => line.replace(/^.*Permission denied$/, "denied"))).toEqual([
        ...["own", "skeleton", "own", "denied", "ran", "755 0", "600 0", "etc", "home", "usr", "denied", ""],
      ]);
    },
  );
});

describe.each(MODES)("a commit to a stored codebase, %s", (mode) => {
  let lab: ViewLab;
  let codebase: Codebase;
  let count = 0;
  const views: PreparedView[] = [];
  beforeAll(() => {
    lab = openLab(mode);
  });
  afterEach(() => {
    for (const view of views.splice(0)) view.release();
  });
  afterAll(() => {
    lab[Symbol.dispose]();
  });

  interface Run {
    readonly run: (script: string) => void;
    readonly commit: (options?: CommitOptions) => Promise<CommitResult>;
    readonly changes: () => Promise<readonly string[]>;
  }

  /** A new codebase made by a script. */
  async function made(script: string): Promise<StoredBase> {
    codebase = openStore(join(lab.dir, `store-${++count}`));
    return await imported(codebase, lab.codebase(script, `code-${count}`));
  }

  async function over(base: StoredBase, policy: Policy = policyOf(["write", "**"])): Promise<Run> {
    const tree = codebase.stored.tree(base);
    const view = await lab.engine.prepare({ base: tree, policy });
    views.push(view);
    const delta = lab.delta(view);
    const deltas = join(lab.dir, `deltas-${++count}`);
    mkdirSync(join(deltas, ID), { recursive: true });
    const input = {
      tool: lab.tool,
      upper: delta.upper,
      base: tree.blobs,
      manifest: () => tree.events(),
      policy: compilePolicy(policy),
      trusted: lab.ids.trusted,
      shownMode,
      deltas,
      sandboxId: ID,
    };
    return {
      run: (script) => {
        const { status, stderr } = delta.run(["/bin/sh", "-euc", script]);
        if (status !== 0) throw new Error(stderr);
      },
      commit: (options) => commitDelta(input, codebase.stored.target(base, input), options),
      changes: async () => {
        const { changes } = await readChanges({ ...input, rebased: readRebased(deltas, ID) });
        return changes.map(({ kind, path }) => `${kind} ${path}`);
      },
    };
  }

  function failure(call: Promise<unknown>): Promise<string> {
    return call.then(
      () => "passed",
      ({ code, details }: CorralError) => `${code} ${JSON.stringify((details as { conflicts?: unknown })?.conflicts)}`,
    );
  }

  verifies("codebase/commit", "what a sandbox changed becomes the next version, and the one it stands on stays as it was", async () => {
    const base = await made("echo a > a; echo b > b; mkdir d; echo c > d/c; ln -s a l; printf '#!/bin/sh\\n' > run; chmod 755 run");
    const { run, commit } = await over(base);
    run("echo a2 > a; rm b; mv d/c d/moved; mkdir new; echo n > new/n; ln -s ../a new/l; chmod 755 a; rm l; mv run ran; cat d/moved");
    expect(await commit()).toMatchObject({ conflicts: [], refused: [], dropped: [] });
    expect(await content(codebase)).toEqual([
      "a 755 a2",
      "d/",
      "d/moved 644 c",
      "new/",
      "new/l -> ../a",
      "new/n 644 n",
      "ran 755 #!/bin/sh",
    ]);
    expect(codebase.versions[0]?.root).toBe(base.root);
    const second = await over({ ...base, version: 2, root: codebase.versions[1]?.root ?? "" });
    second.run("test $(cat d/moved) = c; test -x ran; test ! -e b");
  });

  verifies(
    "codebase/commit-merge",
    "changes that do not touch each other are merged, and a path that both changed is a conflict that overwrites nothing",
    async () => {
      const base = await made("echo a > a; echo b > b; mkdir d; echo c > d/c; mkdir gone; echo g > gone/g");
      const [first, second] = [await over(base), await over(base)];
      first.run("echo first > a; echo f > d/first; rm -r gone; echo same > both");
      second.run("echo second > b; echo s > d/second; echo same > both");
      await first.commit();
      await expect(second.commit()).resolves.toMatchObject({ conflicts: [] });
      expect(await content(codebase)).toEqual([
        "a 644 first",
        "b 644 second",
        "both 644 same",
        "d/",
        "d/c 644 c",
        "d/first 644 f",
        "d/second 644 s",
      ]);
      const third = await over(base);
      third.run("echo third > a; echo t > d/c; echo t > gone/t; mkdir d/first; rm -r d; echo x > x");
      const before = codebase.versions.length;
      const failed = await failure(third.commit());
      expect(failed).toMatch(/^commit_conflict .*"\/a".*meanwhile/);
      expect(failed).toContain('"/gone/t"');
      expect(codebase.versions).toHaveLength(before);
      const partial = await third.commit({ partial: true });
      expect(partial.committed.map(({ path }) => path)).toEqual(["/d/c", "/x"]);
      expect(await content(codebase)).toEqual([
        "a 644 first",
        "b 644 second",
        "both 644 same",
        "d/",
        "d/first 644 f",
        "d/second 644 s",
        "x 644 x",
      ]);
    },
  );

  verifies("codebase/commit-again", "a sandbox that goes on commits what came since, over what it committed before", async () => {
    const base = await made("echo a > a; mkdir d; echo c > d/c");
    const { run, commit, changes } = await over(base);
    run("echo one > a; mv d/c d/moved; echo n > n");
    await commit();
    expect(await changes()).toEqual([]);
    run("echo two > a; rm n; echo more >> d/moved");
    expect(await changes()).toEqual(["modify /a", "modify /d/moved", "delete /n"]);
    await commit();
    expect(await content(codebase)).toEqual(["a 644 two", "d/", "d/moved 644 c\nmore"]);
    const other = await over({ ...base, version: 3, root: codebase.versions.at(-1)?.root ?? "" });
    other.run("echo other > a");
    await other.commit();
    run("echo three > a");
    expect(await failure(commit())).toMatch(/^commit_conflict .*"\/a"/);
    expect(await content(codebase)).toContain("a 644 other");
  });

  verifies("codebase/commit-judged", "what the policy refuses does not become a version", async () => {
    const base = await made("echo a > a; mkdir out; echo s > .env");
    const { run, commit } = await over(base, policyOf(["read", "**"], ["write", "/out/**"], ["none", ".env"]));
    run("echo x > out/x; echo y > out/.env; ln -s /etc/passwd out/l");
    expect(await failure(commit())).toMatch(/^commit_refused/);
    expect(codebase.versions).toHaveLength(1);
    await commit({ partial: true });
    expect(await content(codebase)).toEqual([".env 644 s", "a 644 a", "out/", "out/x 644 x"]);
  });

  verifies("codebase/commit-race", "of two commits at once both become versions, one after the other", async () => {
    const base = await made("mkdir d; touch d/keep");
    const runs = await Promise.all(Array.from({ length: 4 }, () => over(base)));
    for (const [index, { run }] of runs.entries()) run(`echo ${index} > d/f${index}`);
    await Promise.all(runs.map(({ commit }) => commit()));
    expect(codebase.versions).toHaveLength(5);
    expect(await content(codebase)).toEqual(["d/", "d/f0 644 0", "d/f1 644 1", "d/f2 644 2", "d/f3 644 3", "d/keep 644 "]);
  });
});
