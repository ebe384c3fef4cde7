// Snapshots and a server that is killed while one is taken: the sandbox goes on, and of the half snapshot nothing is left.

import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { errorCode } from "../../src/api/errors.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { startServerProcess } from "../fixtures/server.ts";
import { verifies } from "../verifies.ts";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString().trim();

verifies(
  "server/snapshots-survive",
  "a server that is killed while a snapshot is taken leaves whole ones and a sandbox that goes on",
  async () => {
    const dir = mkdtempSync("/tmp/corral-snapshot-kill-");
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    const data = join(dir, "data");
    const snapshots = join(data, "snapshots");
    let server = await startServerProcess(data);
    onTestFinished(async () => void (await server.end("SIGTERM")));
    const key = server.key ?? "";
    const first = new Corral({ url: server.url, key });
    const { id } = await first.create({ timeoutMs: null });
    await first.sandbox(id).exec({ command: "seq 1 300 | xargs touch; echo one > a; setsid sleep 1000 > /dev/null 2>&1 &" });
    const whole = await first.sandbox(id).snapshot();
    const cut = first
      .sandbox(id)
      .snapshot({ idempotencyKey: "cut" })
      .then(() => "passed", errorCode);
    await expect.poll(() => readdirSync(snapshots).some((name) => name.endsWith(".maker")), { interval: 1 }).toBe(true);
    await server.end("SIGKILL");
    expect(await cut).toBe("server_unreachable");
    server = await startServerProcess(data);
    const second = new Corral({ url: server.url, key });
    const sandbox = second.sandbox(id);
    expect(text((await sandbox.exec({ command: "cat a; ls | wc -l; pgrep -c sleep" })).stdout)).toBe("one\n301\n1");
    expect((await second.snapshots.list()).items).toEqual([whole]);
    expect([readdirSync(snapshots), readdirSync(join(data, "deltas", "layers")).length]).toEqual([[whole.id], 1]);
    // Its key is free again, and what was whole is.
    const again = await sandbox.snapshot({ idempotencyKey: "cut" });
    await using made = await second.create({ snapshot: whole.id });
    expect(text((await made.exec({ command: "ls | wc -l" })).stdout)).toBe("301");
    await made.destroy();
    await sandbox.destroy();
    for (const snapshot of [whole, again]) await second.snapshots.delete(snapshot.id);
    expect([readdirSync(snapshots), existsSync(join(data, "deltas", id)), readdirSync(join(data, "deltas", "layers"))]).toEqual([
      [],
      false,
      [],
    ]);
  },
);
