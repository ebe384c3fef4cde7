// Rows of the client suite: what a sandbox changed, read and committed while it lives and after it ended.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { CorralError } from "../../../src/api/errors.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

async function all(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Uint8Array.from(chunk));
  return Buffer.concat(parts);
}

let dirs = 0;
/** A directory of the server's machine with a file and a hidden one. */
function codebase(lab: ClientLab): string {
  const dir = join(lab.dir, `code${++dirs}`);
  mkdirSync(dir);
  writeFileSync(join(dir, "a.txt"), "one\n");
  writeFileSync(join(dir, ".env"), "SECRET=1\n");
  return dir;
}

const POLICY = {
  rules: [
    { pattern: "/**", permission: "write" },
    { pattern: ".env", permission: "none" },
  ],
} as const;
const EDIT = "echo two >> a.txt; echo new > b.txt; ln -s a.txt l";

export function deltaRows(lab: () => ClientLab): void {
  verifies("client/delta-read", "what a living sandbox changed is told as a list, as text and as a tar", async () => {
    const sandbox = await lab().make({ codebaseDir: codebase(lab()), policy: POLICY }, lab().admin);
    expect(await sandbox.delta.changes()).toMatchObject({ changes: [], refused: [], counts: { changes: 0, refused: 0 } });
    expect((await all(sandbox.delta.text())).length).toBe(0);
    await sandbox.exec({ command: `${EDIT}; echo x > .env` });
    const { changes, refused, counts } = await sandbox.delta.changes();
    expect(changes.map(({ path, kind }) => [path, kind])).toEqual([
      ["/.env", "add"],
      ["/a.txt", "modify"],
      ["/b.txt", "add"],
      ["/l", "add"],
    ]);
    expect(refused.map(({ path }) => path)).toEqual(["/.env"]);
    expect(counts).toEqual({ changes: 4, refused: 1 });
    const patch = text(await all(sandbox.delta.text()));
    expect(patch).toContain("+two\n");
    expect(patch).not.toContain("SECRET");
    expect(text(await all(sandbox.delta.text({ paths: ["/b.txt"] })))).not.toContain("two");
    expect(await codeOf(all(sandbox.delta.text({ paths: ["/none"] })))).toBe("request_invalid");
    const tar = await all(sandbox.delta.export());
    expect([tar.length % 512, text(tar).includes("b.txt"), text(tar).includes("new\n")]).toEqual([0, true, true]);
    expect(await codeOf(sandbox.delta.discard())).toBe("sandbox_state");
  });

  verifies("client/delta-commit", "a commit is all or nothing, names what stops it, and can leave that out", async () => {
    const dir = codebase(lab());
    const sandbox = await lab().make({ codebaseDir: dir, policy: POLICY }, lab().admin);
    await sandbox.exec({ command: `${EDIT}; echo x > .env` });
    const refusal: unknown = await sandbox.delta.commit().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect((refusal as CorralError).details).toMatchObject({ refused: [{ path: "/.env" }] });
    expect(readFileSync(join(dir, "a.txt"), "utf8")).toBe("one\n");
    expect((await sandbox.delta.commit({ paths: ["/b.txt"] })).counts).toEqual({ committed: 1, refused: 0, conflicts: 0, dropped: 0 });
    expect(readFileSync(join(dir, "b.txt"), "utf8")).toBe("new\n");
    writeFileSync(join(dir, "a.txt"), "host\n");
    expect(await codeOf(sandbox.delta.commit({ paths: ["/a.txt"] }))).toBe("commit_conflict");
    const { committed, conflicts, refused } = await sandbox.delta.commit({ partial: true });
    expect(committed.map(({ path }) => path)).toEqual(["/l"]);
    expect([conflicts.map(({ path }) => path), refused.map(({ path }) => path)]).toEqual([["/a.txt"], ["/.env"]]);
    expect(readFileSync(join(dir, "a.txt"), "utf8")).toBe("host\n");
    expect(readFileSync(join(dir, ".env"), "utf8")).toBe("SECRET=1\n");
  });

  verifies("client/delta-kept", "a delta that was to be kept outlives its sandbox until it is committed or discarded", async () => {
    const { admin } = lab();
    const dir = codebase(lab());
    const kept = await lab().make({ codebaseDir: dir, policy: POLICY, delta: "keep" }, admin);
    const gone = await lab().make({ codebaseDir: dir, policy: POLICY }, admin);
    for (const sandbox of [kept, gone]) {
      await sandbox.exec({ command: EDIT });
      await sandbox.destroy();
    }
    expect(await codeOf(gone.delta.changes())).toBe("delta_not_found");
    expect((await kept.delta.changes()).counts.changes).toBe(3);
    expect((await admin.deltas.list()).items).toMatchObject([{ sandboxId: kept.id, ownerId: "admin", codebaseDir: dir, cutOff: false }]);
    await kept.delta.commit();
    expect(readFileSync(join(dir, "a.txt"), "utf8")).toBe("one\ntwo\n");
    expect(await codeOf(kept.delta.changes())).toBe("delta_not_found");
    expect((await admin.deltas.list()).items).toEqual([]);
    const other = await lab().make({ delta: "keep" });
    await other.exec({ command: "echo 1 > f" });
    await other.destroy();
    expect(await codeOf(other.delta.commit())).toBe("commit_refused");
    await other.delta.discard();
    expect(await codeOf(other.delta.discard())).toBe("delta_not_found");
  });

  verifies("client/delta-pages", "kept deltas are told by pages, each once", async () => {
    const ann = await lab().of("ann");
    const ids: string[] = [];
    for (let count = 0; count < 3; count++) {
      const sandbox = await lab().make({ delta: "keep" });
      await sandbox.exec({ command: "echo 1 > f" });
      await sandbox.destroy();
      ids.push(sandbox.id);
    }
    const first = await ann.deltas.list({ limit: 2 });
    const rest = await ann.deltas.list({ limit: 2, cursor: first.next ?? "" });
    expect([...first.items, ...rest.items].map(({ sandboxId }) => sandboxId).sort()).toEqual(ids.sort());
    expect([first.items.length, rest.next]).toEqual([2, undefined]);
    for (const id of ids) await ann.sandbox(id).delta.discard();
  });

  verifies("client/delta-owners", "a delta is its owner's, and a directory of the machine is written for an admin alone", async () => {
    const [ann, bob] = [await lab().of("ann"), await lab().of("bob")];
    const mine = await lab().make({ delta: "keep" });
    const narrow = await lab().ofSandbox("ann", mine.id);
    const host = await lab().make({ codebaseDir: codebase(lab()), policy: POLICY }, lab().admin);
    const [wide, agent] = [await lab().of("admin"), await lab().ofSandbox("admin", host.id)];
    for (const { id } of [mine, host]) {
      const { delta } = bob.sandbox(id);
      const calls = [delta.changes(), all(delta.text()), all(delta.export()), delta.commit(), delta.discard()];
      expect(new Set(await Promise.all(calls.map(codeOf)))).toEqual(new Set(["sandbox_not_found"]));
    }
    await host.exec({ command: EDIT });
    for (const client of [wide, agent]) {
      expect((await client.sandbox(host.id).delta.changes()).counts.changes).toBe(3);
      expect(await codeOf(client.sandbox(host.id).delta.commit())).toBe("forbidden");
    }
    await mine.exec({ command: "echo 1 > f" });
    expect((await narrow.sandbox(mine.id).delta.changes()).counts.changes).toBe(1);
    await mine.destroy();
    expect(await codeOf(narrow.sandbox(mine.id).delta.changes())).toBe("sandbox_not_found");
    expect(await codeOf(narrow.deltas.list())).toBe("forbidden");
    expect((await bob.deltas.list()).items).toEqual([]);
    expect((await ann.deltas.list()).items).toMatchObject([{ sandboxId: mine.id, ownerId: "ann" }]);
    expect(JSON.stringify(await ann.deltas.list())).not.toContain("codebaseDir");
    await ann.sandbox(mine.id).delta.discard();
  });
}
