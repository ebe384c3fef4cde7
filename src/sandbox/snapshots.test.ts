// Snapshots of sandboxes of this process: what they hold, what is made from them, what stays of them.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { openCorral } from "../../test/fixtures/corral-here.ts";
import { removeTree } from "../../test/fixtures/remove-tree.ts";
import { verifies } from "../../test/verifies.ts";
import type { Corral } from "../api/corral.ts";
import { ID_BODY_LENGTH } from "../api/ids.ts";
import type { CreateRequest, Sandbox } from "../api/sandbox.ts";
import { randomText } from "../base/random-text.ts";

let dir = "";
let code = "";
let corral: Corral;

const open = (): Promise<Corral> => openCorral(dir);

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "corral-snapshots-"));
  code = join(dir, "code");
  corral = await open();
});
beforeEach(() => {
  removeTree(code);
  mkdirSync(join(code, "src"), { recursive: true });
  writeFileSync(join(code, "src", "a"), "base a\n");
  writeFileSync(join(code, "b"), "base b\n");
});
afterAll(async () => {
  await corral[Symbol.asyncDispose]();
  removeTree(dir);
});

function create(more: Partial<CreateRequest> = {}): Promise<Sandbox> {
  return corral.create({ codebaseDir: code, policy: { rules: [{ pattern: "**", permission: "write" }] }, ...more });
}

async function said(sandbox: Sandbox, command: string): Promise<string> {
  const { stdout, stderr } = await sandbox.exec({ command });
  return Buffer.concat([stdout, stderr]).toString();
}

function newId(): string {
  return `snap${randomText(ID_BODY_LENGTH)}`;
}

async function taken(sandboxId: string): Promise<string> {
  const id = newId();
  await corral.snapshots.take(sandboxId, id);
  return id;
}

function layers(): readonly string[] {
  const place = join(dir, "data", "deltas", "layers");
  return existsSync(place) ? readdirSync(place) : [];
}

const paths = async (id: string): Promise<string[]> => (await corral.deltas.changes(id)).changes.map(({ kind, path }) => `${kind} ${path}`);

verifies(
  "snapshot/files",
  "a snapshot of a sandbox that runs holds its files of that moment; what is made from it goes its own way",
  async () => {
    await using origin = await create({ env: { WHO: "ann" }, limits: { openFiles: 123 } });
    await said(
      origin,
      "mv src lib; echo one >> lib/a; rm b; mkdir -p new/dir; ln -s x new/link; chmod 700 new; setsid sleep 1000 > /dev/null 2>&1 &",
    );
    const snapshot = await taken(origin.id);
    await said(origin, "echo two >> lib/a; rm -r new");
    await using made = await corral.snapshots.create(snapshot, { env: { MORE: "more" } });
    expect(
      await said(made, "cat lib/a; ls -A; readlink new/link; stat -c %a new; echo $WHO $MORE; ulimit -n; pgrep sleep || echo none"),
    ).toBe("base a\none\nlib\nnew\nx\n700\nann more\n123\nnone\n");
    await said(made, "echo three >> lib/a; mv lib/a new/a; echo b > b");
    expect(await said(origin, "cat lib/a; ls -A; pgrep -c sleep")).toBe("base a\none\ntwo\nlib\n1\n");
    // All since the codebase, the snapshot's as well as its own.
    expect(await paths(made.id)).toEqual([
      "modify /b",
      "add /lib",
      "add /new",
      "add /new/a",
      "add /new/dir",
      "add /new/link",
      "delete /src",
      "delete /src/a",
    ]);
    await corral.deltas.commit(made.id, { acceptFlagged: true });
    expect(readFileSync(join(code, "new/a"), "utf8")).toBe("base a\none\nthree\n");
    expect(readdirSync(code).sort()).toEqual(["b", "lib", "new"]);
    await corral.snapshots.remove(snapshot);
  },
);

verifies("snapshot/files", "a snapshot of a sandbox that writes on is of one moment", async () => {
  await using origin = await create();
  const loop = "i=0; while :; do i=$((i+1)); echo $i > first/x; echo $i > last/x; done";
  await said(
    origin,
    `mkdir first last; seq -f first/%g 1 200 | xargs touch; setsid sh -c '${loop}' > /dev/null 2>&1 & until [ -s last/x ]; do :; done`,
  );
  const differences: number[] = [];
  for (let i = 0; i < 3; i++) {
    const snapshot = await taken(origin.id);
    const made = await corral.snapshots.create(snapshot, {});
    // Empty: the shell had opened the file and not written yet; then the other one tells.
    const [first = "", last = ""] = (await said(made, "cat first/x; echo /; cat last/x")).split("/");
    if (first.trim() !== "" && last.trim() !== "") differences.push(Number(first) - Number(last));
    await made.destroy();
    await corral.snapshots.remove(snapshot);
  }
  expect(differences.filter((difference) => difference !== 0 && difference !== 1)).toEqual([]);
});

verifies("snapshot/paused", "a snapshot of a paused sandbox takes no copy, and both go on from it", async () => {
  const origin = await create();
  await said(origin, "echo one >> b; mv src lib");
  await origin.pause(false);
  const snapshot = await taken(origin.id);
  expect(await paths(origin.id)).toEqual(["modify /b", "add /lib", "rename /lib/a", "delete /src"]);
  const [again, made] = [await corral.paused.resume(origin.id), await corral.snapshots.create(snapshot, {})];
  await said(again, "echo two >> b");
  await said(made, "echo three >> b; rm lib/a");
  expect([await said(again, "cat b; ls lib"), await said(made, "cat b; ls lib")]).toEqual([
    "base b\none\ntwo\na\n",
    "base b\none\nthree\n",
  ]);
  for (const sandbox of [again, made]) await sandbox.destroy();
  expect(layers()).toHaveLength(1);
  await using later = await corral.snapshots.create(snapshot, {});
  expect(await said(later, "cat b")).toBe("base b\none\n");
  await corral.snapshots.remove(snapshot);
  await expect(corral.snapshots.create(snapshot, {})).rejects.toMatchObject({ code: "snapshot_not_found" });
  // Whoever stands on it still does.
  expect([layers().length, await said(later, "cat b")]).toEqual([1, "base b\none\n"]);
  await later.destroy();
  expect(layers()).toEqual([]);
});

verifies("snapshot/restore", "a sandbox gets back the files of one of its snapshots, over and over", async () => {
  let sandbox = await create();
  const ids: string[] = [];
  for (const step of ["one", "two", "three"]) {
    await said(sandbox, `echo ${step} >> b; echo ${step} > ${step}`);
    ids.push(await taken(sandbox.id));
  }
  const back = async (snapshot: string | undefined): Promise<string> => {
    await sandbox.pause(false);
    await corral.snapshots.restore(sandbox.id, snapshot ?? "");
    sandbox = await corral.paused.resume(sandbox.id);
    return await said(sandbox, "cat b; ls");
  };
  expect(await back(ids[0])).toBe("base b\none\nb\none\nsrc\n");
  await said(sandbox, "rm one src/a");
  expect(await back(ids[2])).toBe("base b\none\ntwo\nthree\nb\none\nsrc\nthree\ntwo\n");
  expect(await back(ids[1])).toBe("base b\none\ntwo\nb\none\nsrc\ntwo\n");
  expect(await paths(sandbox.id)).toEqual(["modify /b", "add /one", "add /two"]);
  // One that was cut off after it was decided: the rest is done before anything is made of it.
  await said(sandbox, "echo four > four");
  await sandbox.pause(false);
  const record = join(dir, "data", "deltas", sandbox.id, "delta.json");
  writeFileSync(record, JSON.stringify({ ...(JSON.parse(readFileSync(record, "utf8")) as object), stale: true }));
  await expect(corral.deltas.changes(sandbox.id)).rejects.toMatchObject({ code: "sandbox_state" });
  sandbox = await corral.paused.resume(sandbox.id);
  expect(await said(sandbox, "ls")).toBe("b\none\nsrc\ntwo\n");
  await using other = await create();
  await other.pause(false);
  await expect(corral.snapshots.restore(other.id, ids[0] ?? "")).rejects.toMatchObject({ code: "request_invalid" });
  await corral.paused.destroy(other.id);
  await sandbox.destroy();
  for (const id of ids) await corral.snapshots.remove(id);
  expect(layers()).toEqual([]);
});

verifies("snapshot/commit-between", "what was committed before a snapshot is no conflict for what is made from it", async () => {
  await using origin = await create();
  await said(origin, "echo one >> b");
  await corral.deltas.commit(origin.id);
  const snapshot = await taken(origin.id);
  await using made = await corral.snapshots.create(snapshot, {});
  await said(made, "echo two >> b; echo a > src/a");
  expect(await paths(made.id)).toEqual(["modify /b", "modify /src/a"]);
  await corral.deltas.commit(made.id);
  expect(readFileSync(join(code, "b"), "utf8")).toBe("base b\none\ntwo\n");
  await corral.snapshots.remove(snapshot);
});

verifies(
  "snapshot/cut-off",
  "what a killed process left of snapshots goes at the next start, and nothing that somebody stands on",
  async () => {
    const sandbox = await create();
    await said(sandbox, "echo one >> b");
    const [kept, passing] = [await taken(sandbox.id), newId()];
    await corral.snapshots.take(sandbox.id, passing, { passing: true });
    await sandbox.destroy();
    // Whoever starts beside the process that takes one leaves it alone; when that has died it goes, whole or not.
    await (await open())[Symbol.asyncDispose]();
    await (await corral.snapshots.create(passing, {})).destroy();
    const snapshots = join(dir, "data", "snapshots");
    writeFileSync(join(snapshots, `${passing}.maker`), JSON.stringify({ pid: 1, startTicks: "0", bootId: "none" }));
    mkdirSync(join(snapshots, newId()));
    writeFileSync(join(dir, "data", "deltas", "layers", layers()[0] ?? "", "refs", "sb01234567890123456789"), "");
    // As one that was killed before its new layer had its name.
    mkdirSync(join(dir, "data", "deltas", "layers", `.ly01234567890123456789.${passing}`));
    expect(layers()).toHaveLength(3);
    {
      await using other = await open();
      expect(other.reaped.failures).toEqual([]);
    }
    expect([layers().length, readdirSync(snapshots)]).toEqual([1, [kept]]);
    await corral.snapshots.remove(kept);
    expect(layers()).toEqual([]);
  },
);

verifies("snapshot/limits", "what a snapshot holds counts against the limits of what is made from it", async () => {
  await using origin = await create({ limits: { inodes: 10 } });
  await said(origin, "mkdir d; touch d/1 d/2 d/3; head -c 1000000 /dev/zero > big");
  const snapshot = newId();
  const { bytes, entries } = await corral.snapshots.take(origin.id, snapshot);
  expect([entries, bytes >= 1_000_000, bytes < 1_100_000]).toEqual([5, true, true]);
  for (const limits of [{ inodes: 5 }, { diskBytes: 900_000 }])
    await expect(corral.snapshots.create(snapshot, { limits })).rejects.toMatchObject({ code: "limit_reached" });
  await using made = await corral.snapshots.create(snapshot, { limits: { inodes: 8 } });
  const { limitHit } = await made.exec({ command: "touch 1 2 3 4 5; sleep 10" });
  expect(limitHit).toBe("inodes");
  await corral.snapshots.remove(snapshot);
});

it("refuses sandboxes that are not here, and ids that are none", async () => {
  await expect(corral.snapshots.take("sb01234567890123456789", newId())).rejects.toMatchObject({ code: "sandbox_not_found" });
  await expect(corral.snapshots.create("../../etc", {})).rejects.toMatchObject({ code: "snapshot_not_found" });
  const empty = await create();
  const snapshot = await taken(empty.id);
  await empty.destroy();
  await using made = await corral.snapshots.create(snapshot, {});
  expect([await said(made, "cat b"), layers()]).toEqual(["base b\n", []]);
  await corral.snapshots.remove(snapshot);
});
