// Rows of the client suite: the life of a sandbox, commands, who may reach what.

import { expect } from "vitest";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

const UNKNOWN = "sb01234567890123456789";

export function sandboxRows(lab: () => ClientLab): void {
  verifies("client/exec", "runs commands and gives their bytes, exit code, signal and limits", async () => {
    const sandbox = await lab().make({ env: { WHO: "ann" } });
    const result = await sandbox.exec({ command: "cat; echo $WHO >&2; exit 3", stdin: Buffer.from([0, 255, 10]) });
    expect([...result.stdout]).toEqual([0, 255, 10]);
    expect(text(result.stderr)).toBe("ann\n");
    expect(result).toMatchObject({ exitCode: 3, signal: null, timedOut: false, truncated: false });
    expect(await sandbox.exec({ command: ["sleep", "60"], timeoutMs: 100 })).toMatchObject({ exitCode: 124, timedOut: true });
    expect(await sandbox.exec({ command: ["no-such-program"] })).toMatchObject({ exitCode: 127 });
    expect(await codeOf(sandbox.exec({ command: "true", cwd: "not-absolute" }))).toBe("request_invalid");
    expect(await codeOf(sandbox.exec({ command: "true", cwd: "/no/such/place" }))).toBe("exec_failed");
  });

  verifies("client/sinks", "output comes to sinks as it comes, and then the result holds none", async () => {
    const sandbox = await lab().make();
    let out = "";
    const result = await sandbox.exec({ command: "echo one; echo two", onStdout: (chunk) => void (out += text(chunk)) });
    expect([out, result.stdout.length, result.exitCode]).toEqual(["one\ntwo\n", 0, 0]);
  });

  verifies("client/life", "a sandbox is told from its making to its end, and is gone after it", async () => {
    const sandbox = await lab().make({ metadata: { job: "7" }, timeoutMs: 60_000 });
    const info = await sandbox.info();
    expect(info).toMatchObject({ id: sandbox.id, state: "running", ownerId: "ann", metadata: { job: "7" } });
    const renewed = await sandbox.renew(null);
    expect(renewed.endAt).toBeNull();
    const ann = await lab().of("ann");
    expect((await ann.list({ metadata: { job: "7" } })).items.map(({ id }) => id)).toEqual([sandbox.id]);
    await sandbox.destroy();
    await sandbox.destroy();
    expect(await codeOf(sandbox.info())).toBe("sandbox_not_found");
    expect(await codeOf(sandbox.exec({ command: "true" }))).toBe("sandbox_not_found");
  });

  verifies("client/owners", "a key reaches what is its owner's, a key for one sandbox that sandbox, and nothing else", async () => {
    const [mine, bob] = [await lab().make(), await lab().of("bob")];
    const other = await lab().make({}, bob);
    const narrow = await lab().ofSandbox("ann", mine.id);
    const ann = await lab().of("ann");
    for (const client of [ann, narrow]) {
      expect(await codeOf(client.sandbox(other.id).info())).toBe("sandbox_not_found");
      expect(await codeOf(client.sandbox(UNKNOWN).exec({ command: "true" }))).toBe("sandbox_not_found");
      expect((await client.sandbox(mine.id).exec({ command: "echo hi" })).exitCode).toBe(0);
      expect(await codeOf(client.tokens.issue({ ownerId: "ann", scope: "admin", name: "x" }))).toBe("forbidden");
    }
    expect(await codeOf(narrow.create({}))).toBe("forbidden");
    expect(await codeOf(ann.create({ codebaseDir: lab().dir }))).toBe("forbidden");
  });

  verifies("client/idempotent-create", "one idempotency key makes one sandbox", async () => {
    const ann = await lab().of("ann");
    const [first, second] = [
      await ann.create({ metadata: { a: "1" } }, { idempotencyKey: "k1" }),
      await ann.create({ metadata: { a: "1" } }, { idempotencyKey: "k1" }),
    ];
    expect(second.id).toBe(first.id);
    expect(await codeOf(ann.create({ metadata: { a: "2" } }, { idempotencyKey: "k1" }))).toBe("idempotency_conflict");
    await first.destroy();
  });

  verifies("client/batch", "a batch makes each of its sandboxes or tells its error, once for one key", async () => {
    const ann = await lab().of("ann");
    const bodies = [{ metadata: { n: "0" } }, { codebaseDir: lab().dir }, { metadata: { n: "2" } }];
    const first = await ann.createBatch(bodies, { idempotencyKey: "batch" });
    const again = await ann.createBatch(bodies, { idempotencyKey: "batch" });
    const names = (items: typeof first): readonly unknown[] => items.map((item) => ("id" in item ? item.id : item.code));
    expect(names(first)).toEqual([expect.stringMatching(/^sb/), "forbidden", expect.stringMatching(/^sb/)]);
    expect(names(again)).toEqual(names(first));
    for (const item of first) if ("id" in item) await item.destroy();
    expect(await codeOf(ann.createBatch(Array.from({ length: 101 }, () => ({}))))).toBe("request_invalid");
  });
}
