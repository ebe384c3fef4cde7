// Paused sandboxes and the end of their server, orderly or not: what was paused is there at the next start.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import type { Client } from "../../src/api/client.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { type ServerProcess, startServerProcess } from "../fixtures/server.ts";
import { verifies } from "../verifies.ts";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString().trim();

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  verifies(
    "server/paused-survive",
    `every paused sandbox is there again after a server that ended by ${signal}, ${signal === "SIGKILL" ? "as it was" : "with its files alone"}`,
    async () => {
      const dir = mkdtempSync("/tmp/corral-paused-");
      onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
      const data = join(dir, "data");
      let server = await startServerProcess(data);
      onTestFinished(async () => void (await server.end("SIGTERM")));
      const key = server.key ?? "";
      const open = ({ url }: ServerProcess): Client => new Corral({ url, key });
      const [frozen, ended, empty, gone] = await Promise.all(
        [1, 2, 3, 4].map(() => open(server).create({ env: { WHO: "ann" }, timeoutMs: null })),
      );
      if (frozen === undefined || ended === undefined || empty === undefined || gone === undefined) throw new Error("four were made");
      for (const sandbox of [frozen, ended]) await sandbox.exec({ command: "echo kept > file; setsid sleep 1000 > /dev/null 2>&1 &" });
      await frozen.pause();
      for (const sandbox of [ended, empty, gone]) await sandbox.pause({ memory: false });
      await gone.destroy();
      await server.end(signal);
      server = await startServerProcess(data);
      const client = open(server);
      for (const { id } of [frozen, ended])
        expect(JSON.parse(readFileSync(join(data, "deltas", id, "delta.json"), "utf8"))).toMatchObject({ kept: false });
      const paused = (await client.list({ state: "paused" })).items;
      expect(new Set(paused.map(({ id }) => id))).toEqual(new Set([frozen.id, ended.id, empty.id]));
      const survives = signal === "SIGKILL";
      expect(paused.filter(({ memory }) => memory).map(({ id }) => id)).toEqual(survives ? [frozen.id] : []);
      for (const { id } of [frozen, ended]) {
        const { stdout } = await client.sandbox(id).exec({ command: "cat file; echo $WHO; pgrep -c sleep" });
        expect(text(stdout)).toBe(`kept\nann\n${survives && id === frozen.id ? 1 : 0}`);
      }
      expect((await client.sandbox(empty.id).exec({ command: "ls -A" })).stdout).toHaveLength(0);
      for (const { id } of [frozen, ended, empty]) await client.sandbox(id).destroy();
      expect(readdirSync(join(data, "deltas"))).toEqual([]);
      expect(existsSync(join(data, "journal", `${frozen.id}.json`))).toBe(false);
    },
  );
}
