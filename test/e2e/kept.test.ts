// Processes and shells over a kill of the server, as a client meets it: real servers one after the other over one data directory.

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect } from "vitest";
import type { SandboxHandle } from "../../src/api/client.ts";
import { errorCode } from "../../src/api/errors.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { type ServerProcess, startServerProcess } from "../fixtures/server.ts";
import { verifies } from "../verifies.ts";

const ROUNDS = 3;
const place = { dir: "", key: "" };
let server: ServerProcess;

beforeAll(() => {
  place.dir = mkdtempSync("/tmp/corral-kept-");
});
afterAll(async () => {
  await server?.end("SIGTERM");
  rmSync(place.dir, { recursive: true, force: true });
});

async function startServer(): Promise<void> {
  server = await startServerProcess(join(place.dir, "data"));
  place.key ||= server.key ?? "";
}

function client(): Corral {
  return new Corral({ url: server.url, key: place.key });
}

/** Kills the server and starts the next; the sandbox as that one has it. */
async function kill({ id }: SandboxHandle): Promise<SandboxHandle> {
  expect(await server.end("SIGKILL")).toBe("SIGKILL");
  await startServer();
  return client().sandbox(id);
}

describe("over kill -9 of the server", () => {
  beforeEach(async (context) => {
    if (process.geteuid?.() !== 0) context.skip("as root alone; what lasts is proven without in rootless.test.ts");
    if (place.key === "") await startServer();
  });

  verifies("server/restart-processes", "a process goes on, and its output has no hole from one server to the next", async () => {
    let sandbox = await client().create({});
    const counter = await sandbox.processes.start({
      command: "i=0; while read -r x; do i=$((i+1)); echo line $i; echo e$i >&2; done; exit 9",
      stdin: true,
    });
    const heard = { stdout: "", stderr: "", at: 0 };
    for (let round = 1; round <= ROUNDS; round++) {
      for (let line = 0; line < 50; line++) await sandbox.processes.write(counter.id, Buffer.from("\n"));
      // Somebody listens when the server dies, and goes on from the offset that they had.
      const cut = listen(sandbox, counter.id, heard);
      await expect.poll(() => heard.stdout.includes(`line ${50 * round}\n`) && heard.stderr.includes(`e${50 * round}\n`)).toBe(true);
      sandbox = await kill(sandbox);
      expect(await cut).toBe("stream_cut");
      const info = await sandbox.processes.get(counter.id);
      expect([info.pid, info.command, info.startedAt, info.end]).toEqual([counter.pid, counter.command, counter.startedAt, null]);
    }
    await sandbox.processes.write(counter.id, new Uint8Array(), { end: true });
    expect(await listen(sandbox, counter.id, heard)).toBe("ended");
    const lines = (prefix: string): string => Array.from({ length: 50 * ROUNDS }, (_, n) => `${prefix}${n + 1}\n`).join("");
    expect([heard.stdout, heard.stderr]).toEqual([lines("line "), lines("e")]);
    expect((await sandbox.processes.get(counter.id)).end?.exitCode).toBe(9);
    // Its end is remembered by the next server too.
    sandbox = await kill(sandbox);
    expect((await sandbox.processes.get(counter.id)).end?.exitCode).toBe(9);
    await sandbox.destroy();
  });

  verifies(
    "server/restart-shells",
    "a shell keeps its state, its jobs and its order, also when the server died in the middle of a command",
    async () => {
      let sandbox = await client().create({});
      const { id, pid } = await sandbox.shells.open();
      const said = async (command: string): Promise<string> => {
        const { stdout, stderr } = await sandbox.shells.run(id, { command });
        return Buffer.from(stdout).toString() + Buffer.from(stderr).toString();
      };
      await said("cd /tmp; x=5; f() { echo f$x; }; sleep 300 &");
      for (let round = 0; round < ROUNDS; round++) {
        sandbox = await kill(sandbox);
        expect(await said("echo $x $PWD $(f)")).toBe("5 /tmp f5\n");
        expect(await said("jobs")).toMatch(/Running +sleep 300/);
        expect(await sandbox.shells.get(id)).toMatchObject({ id, pid, cwd: "/tmp", state: "idle" });
      }
      const begun = Promise.withResolvers<void>();
      const cut = sandbox.shells
        .run(id, { command: "until [ -e go ]; do sleep 0.05; done; x=6", onStarted: begun.resolve })
        .catch(errorCode);
      await begun.promise;
      sandbox = await kill(sandbox);
      expect(await cut).toBe("stream_cut");
      expect((await sandbox.shells.get(id)).state).toBe("busy");
      const next = said("echo $x");
      await sandbox.exec({ command: "touch /tmp/go" });
      expect(await next).toBe("6\n");
      // A long command that may have come in part: it runs whole or not at all, and the shell goes on.
      const long = sandbox.shells.run(id, { command: `: '${"y".repeat(1 << 20)}'; x=7` }).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 30));
      sandbox = await kill(sandbox);
      await long;
      expect(await said("echo $x")).toMatch(/^[67]\n$/);
      await sandbox.shells.run(id, { command: "exit 3" });
      sandbox = await kill(sandbox);
      expect(await sandbox.shells.get(id)).toMatchObject({ state: "closed", end: { exitCode: 3 } });
      expect(await sandbox.shells.run(id, { command: "true" }).catch(errorCode)).toBe("shell_closed");
      await sandbox.destroy();
    },
  );
});

interface Heard {
  stdout: string;
  stderr: string;
  at: number;
}

/** Adds what comes behind `heard.at`; resolves with how it ended. */
async function listen(sandbox: SandboxHandle, id: string, heard: Heard): Promise<string | undefined> {
  try {
    for await (const piece of sandbox.processes.output(id, { from: heard.at })) {
      if (piece.kind === "end") return "ended";
      if (piece.kind === "gap") return `a gap up to ${piece.offset}`;
      heard[piece.kind] += Buffer.from(piece.bytes).toString();
      heard.at = piece.offset + piece.bytes.length;
    }
    return "nothing";
  } catch (error) {
    return errorCode(error);
  }
}
