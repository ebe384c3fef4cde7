// Rows of the client suite: snapshots, what is made from them, restore and fork.

import { expect } from "vitest";
import type { Client, SandboxHandle } from "../../../src/api/client.ts";
import { CorralError } from "../../../src/api/errors.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

async function said(sandbox: SandboxHandle, command: string): Promise<string> {
  const { stdout, stderr } = await sandbox.exec({ command });
  return text(Buffer.concat([stdout, stderr])).trim();
}

function sandboxOf(item: SandboxHandle | CorralError | undefined): SandboxHandle {
  if (item === undefined || item instanceof CorralError) throw item ?? new Error("no fork was made");
  return item;
}

async function ids(
  client: Client,
  options: { readonly sandboxId: string; readonly name?: string; readonly limit?: number },
): Promise<string[]> {
  const found: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await client.snapshots.list({ ...options, ...(cursor === undefined ? {} : { cursor }) });
    found.push(...page.items.map(({ id }) => id));
    cursor = page.next;
  } while (cursor !== undefined);
  return found;
}

export function snapshotRows(lab: () => ClientLab): void {
  takeRows(lab);
  listRows(lab);
  againRows(lab);
}

function takeRows(lab: () => ClientLab): void {
  verifies(
    "client/snapshot-files",
    "a snapshot holds files, limits and environment, and what is made from it goes its own way",
    async () => {
      const ann = await lab().of("ann");
      const origin = await lab().make({ env: { WHO: "ann" }, limits: { openFiles: 123 }, metadata: { job: "1" } });
      await said(origin, "mkdir d; echo one > d/a; (while :; do sleep 1; done) > /dev/null 2>&1 &");
      const taken = await origin.snapshot({ name: "built", metadata: { a: "1" } });
      expect(taken).toMatchObject({ ownerId: "ann", sandboxId: origin.id, name: "built", metadata: { a: "1" } });
      expect([await ann.snapshots.get(taken.id), taken.bytes > 0]).toEqual([taken, true]);
      await said(origin, "echo two >> d/a");
      const made = await lab().make({ snapshot: taken.id, env: { MORE: "more" } });
      expect(await made.info()).toMatchObject({ state: "running", snapshot: taken.id, metadata: {} });
      expect(await said(made, "cat d/a; echo $WHO $MORE; ulimit -n; pgrep -c sleep")).toBe("one\nann more\n123\n0");
      await said(made, "echo three > b; rm d/a");
      expect(await said(origin, "cat d/a; ls; pgrep -c sleep")).toBe("one\ntwo\nd\n1");
      const { changes } = await made.delta.changes();
      expect(changes.map(({ kind, path }) => `${kind} ${path}`)).toEqual(["add /b", "add /d"]);
      expect(await codeOf(ann.create({ snapshot: taken.id, policy: "full-access" }))).toBe("request_invalid");
    },
  );

  verifies(
    "client/snapshot-states",
    "running, standing still or without processes, a sandbox gives a snapshot and stays as it was",
    async () => {
      const ann = await lab().of("ann");
      const origin = await lab().make();
      await said(origin, "echo one > a");
      const key = { idempotencyKey: `snapshot-${origin.id}` };
      const first = await origin.snapshot({ name: "first", ...key });
      expect(await origin.snapshot({ name: "first", ...key })).toEqual(first);
      expect(await codeOf(origin.snapshot({ name: "other", ...key }))).toBe("idempotency_conflict");
      await origin.pause();
      const still = await origin.snapshot();
      expect(await origin.info()).toMatchObject({ state: "paused", memory: true });
      await origin.pause({ memory: false });
      const ended = await origin.snapshot();
      expect(await origin.info()).toMatchObject({ state: "paused", memory: false });
      await said(origin, "echo two > a");
      for (const { id } of [first, still, ended]) {
        await using made = await ann.create({ snapshot: id });
        expect(await said(made, "cat a")).toBe("one");
      }
      expect(await said(origin, "cat a")).toBe("two");
      await origin.destroy();
      expect(await codeOf(origin.snapshot())).toBe("sandbox_not_found");
      expect(await codeOf(origin.fork())).toBe("sandbox_not_found");
      for (const { id } of [first, still, ended]) await ann.snapshots.delete(id);
    },
  );
}

function listRows(lab: () => ClientLab): void {
  verifies(
    "client/snapshot-owners",
    "a snapshot of another owner is as one that never was; a key for one sandbox reaches none",
    async () => {
      const [ann, bob, sandbox] = [await lab().of("ann"), await lab().of("bob"), await lab().make()];
      const { id } = await sandbox.snapshot();
      const own = await lab().make({}, bob);
      const calls = [
        bob.snapshots.get(id),
        bob.snapshots.delete(id),
        bob.create({ snapshot: id }),
        own.restore(id),
        ann.snapshots.get("../x"),
      ];
      expect(await Promise.all(calls.map(codeOf))).toEqual(Array(5).fill("snapshot_not_found"));
      const other = bob.sandbox(sandbox.id);
      expect(await Promise.all([other.snapshot(), other.fork(), other.restore(id)].map(codeOf))).toEqual(
        Array(3).fill("sandbox_not_found"),
      );
      expect(await ids(bob, { sandboxId: sandbox.id })).toEqual([]);
      const narrow = await lab().ofSandbox("ann", sandbox.id);
      const inside = narrow.sandbox(sandbox.id);
      const refused = [inside.snapshot(), inside.fork(), inside.restore(id), narrow.snapshots.get(id), narrow.snapshots.list()];
      expect(await Promise.all(refused.map(codeOf))).toEqual(Array(5).fill("forbidden"));
      // Who may act for all makes forks for the owner, and a sandbox from a snapshot for themselves.
      const fork = sandboxOf((await lab().admin.sandbox(sandbox.id).fork())[0]);
      expect((await fork.info()).ownerId).toBe("ann");
      await fork.destroy();
      await ann.snapshots.delete(id);
    },
  );

  verifies(
    "client/snapshot-in-use",
    "a snapshot that a sandbox stands on is not deleted, nor the codebase that one stands on",
    async () => {
      const ann = await lab().of("ann");
      const codebase = await ann.codebases.create({ name: "stood on" });
      await ann.codebases.put(codebase.id, "a", Buffer.from("base\n"));
      const origin = await lab().make({ codebase: { id: codebase.id }, policy: "full-access" });
      await said(origin, "echo more >> a; echo b > b");
      const { id, codebase: on } = await origin.snapshot();
      expect(on).toEqual({ id: codebase.id, version: 2 });
      const made = await lab().make({ snapshot: id });
      expect([(await made.info()).codebase, await said(made, "cat a b")]).toEqual([on, "base\nmore\nb"]);
      expect(await codeOf(ann.snapshots.delete(id))).toBe("snapshot_state");
      await made.delta.commit();
      expect(text(await all(ann.codebases.read(codebase.id, "a")))).toBe("base\nmore\n");
      for (const sandbox of [made, origin]) await sandbox.destroy();
      expect(await codeOf(ann.codebases.delete(codebase.id))).toBe("codebase_state");
      await ann.snapshots.delete(id);
      await ann.codebases.delete(codebase.id);
      expect(await codeOf(ann.snapshots.delete(id))).toBe("snapshot_not_found");
      expect(await codeOf(ann.create({ snapshot: id }))).toBe("snapshot_not_found");
    },
  );

  verifies("client/snapshot-pages", "snapshots are told newest first, each once; there is a limit to their number", async () => {
    const carl = await lab().of("carl");
    const origin = await lab().make({}, carl);
    const taken: string[] = [];
    for (let i = 0; i < 12; i++) taken.unshift((await origin.snapshot({ name: `step ${i % 2}` })).id);
    expect(await codeOf(origin.snapshot())).toBe("limit_reached");
    expect((await ids(carl, { sandboxId: origin.id, limit: 5 })).sort()).toEqual([...taken].sort());
    expect((await carl.snapshots.list({ sandboxId: origin.id, limit: 1 })).items.length).toBe(1);
    expect(await ids(carl, { sandboxId: origin.id, name: "step 0" })).toHaveLength(6);
    expect(await codeOf(carl.snapshots.list({ cursor: "nonsense" }))).toBe("request_invalid");
    await carl.snapshots.delete(taken[0] ?? "");
    expect((await origin.snapshot()).name).toBe("");
  });
}

function againRows(lab: () => ClientLab): void {
  verifies("client/fork", "forks begin with the files of one moment, and touch neither the parent nor each other", async () => {
    const parent = await lab().make({ metadata: { job: "7" } });
    const shell = await parent.shells.open();
    await parent.shells.run(shell.id, { command: "x=5; echo one > a; mkdir d; mv a d/a" });
    const key = { idempotencyKey: `fork-${parent.id}` };
    const forks = (await parent.fork({ count: 3, timeoutMs: 60_000, ...key })).map(sandboxOf);
    expect((await parent.fork({ count: 3, timeoutMs: 60_000, ...key })).map((again) => sandboxOf(again).id)).toEqual(
      forks.map(({ id }) => id),
    );
    for (const [index, fork] of forks.entries()) expect(await said(fork, `cat d/a; echo ${index} >> d/a; touch ${index}`)).toBe("one");
    expect(await Promise.all(forks.map((fork) => said(fork, "cat d/a; ls")))).toEqual(["one\n0\n0\nd", "one\n1\n1\nd", "one\n2\n2\nd"]);
    const { stdout } = await parent.shells.run(shell.id, { command: "echo $x; cat d/a; ls" });
    expect(text(stdout)).toBe("5\none\nd\n");
    expect(await forks[0]?.info()).toMatchObject({ metadata: { job: "7" }, publicPorts: [] });
    await parent.destroy();
    // A fork of a fork, whose parents are gone.
    const [grandchild] = (await forks[1]?.fork()) ?? [];
    await forks[1]?.destroy();
    expect(await said(sandboxOf(grandchild), "cat d/a")).toBe("one\n1");
    expect(await codeOf(sandboxOf(forks[0]).fork({ count: 101 }))).toBe("request_invalid");
    for (const sandbox of [...forks, sandboxOf(grandchild)]) await sandbox.destroy();
  });

  verifies("client/restore", "a sandbox gets back the files of its snapshot, running or paused as it was", async () => {
    const ann = await lab().of("ann");
    const sandbox = await lab().make();
    await said(sandbox, "echo one > a; mkdir d");
    const { id } = await sandbox.snapshot();
    await said(sandbox, "echo two > a; rmdir d; touch later; sleep 100 > /dev/null 2>&1 &");
    const { endAt } = await sandbox.info();
    const restored = await sandbox.restore(id);
    expect(restored.state).toBe("running");
    expect(Math.abs(Date.parse(restored.endAt ?? "") - Date.parse(endAt ?? ""))).toBeLessThan(5_000);
    expect(await said(sandbox, "cat a; ls; pgrep -c sleep")).toBe("one\na\nd\n0");
    await said(sandbox, "echo three > a");
    await sandbox.pause();
    expect(await sandbox.restore(id)).toMatchObject({ state: "paused", memory: false });
    expect(await said(sandbox, "cat a")).toBe("one");
    const other = await lab().make();
    expect(await codeOf(other.restore(id))).toBe("request_invalid");
    expect(await codeOf(ann.snapshots.delete(id))).toBe("snapshot_state");
    await sandbox.destroy();
    expect(await codeOf(sandbox.restore(id))).toBe("sandbox_not_found");
    await ann.snapshots.delete(id);
  });
}

async function all(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const found: Uint8Array[] = [];
  for await (const chunk of chunks) found.push(chunk);
  return Buffer.concat(found);
}
