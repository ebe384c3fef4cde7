// Rows of the client suite: pause and resume, by request and at the end of a life, and who comes too late.

import { expect } from "vitest";
import type { SandboxHandle } from "../../../src/api/client.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

const SOON = { interval: 20 };
/** Leaves a process behind that lives until it is ended. */
const DAEMON = "setsid sleep 1000 > /dev/null 2>&1 & echo $!";

async function said(sandbox: SandboxHandle, command: string): Promise<string> {
  return text((await sandbox.exec({ command })).stdout).trim();
}

async function stateOf(sandbox: SandboxHandle): Promise<string> {
  const { state, memory } = await sandbox.info();
  return memory === undefined ? state : `${state} ${memory ? "with" : "without"} memory`;
}

export function pauseRows(lab: () => ClientLab): void {
  verifies("client/pause-memory", "a paused sandbox keeps its processes, and whatever asks for it next resumes it", async () => {
    const sandbox = await lab().make();
    const pid = await said(sandbox, DAEMON);
    expect(await sandbox.pause()).toMatchObject({ state: "paused", memory: true });
    expect(await stateOf(sandbox)).toBe("paused with memory");
    await sandbox.pause({ memory: true });
    expect(await said(sandbox, `kill -0 ${pid} && echo alive`)).toBe("alive");
    expect(await stateOf(sandbox)).toBe("running");
    await sandbox.pause();
    expect(await sandbox.resume({ timeoutMs: null })).toMatchObject({ state: "running", endAt: null });
    expect(await sandbox.resume()).toMatchObject({ state: "running", endAt: null });
  });

  verifies("client/pause-files", "paused without its processes it keeps its files, limits and environment, and is made again", async () => {
    const sandbox = await lab().make({ env: { WHO: "ann" }, limits: { openFiles: 123 } });
    const pid = await said(sandbox, `echo kept > /workspace/file; rm -f /workspace/none; ${DAEMON}`);
    expect(await sandbox.pause({ memory: false })).toMatchObject({ state: "paused", memory: false });
    expect(await codeOf(sandbox.pause({ memory: true }))).toBe("sandbox_state");
    expect(await stateOf(sandbox)).toBe("paused without memory");
    expect(await said(sandbox, `cat file; echo $WHO; ulimit -n; kill -0 ${pid} 2>&- || echo ended`)).toBe("kept\nann\n123\nended");
    expect(await stateOf(sandbox)).toBe("running");
    // With its processes first, then without: what is kept can only become less.
    await sandbox.pause();
    await sandbox.pause({ memory: false });
    expect(await said(sandbox, "cat file")).toBe("kept");
  });

  verifies("client/pause-exec", "a command stands still with its sandbox, or is told that its sandbox was paused without it", async () => {
    const sandbox = await lab().make();
    const begun = Promise.withResolvers<void>();
    const running = sandbox.exec({ command: "echo up; sleep 0.3; echo done", onStdout: () => begun.resolve() });
    await begun.promise;
    await sandbox.pause();
    await sandbox.resume();
    expect((await running).exitCode).toBe(0);
    const up = Promise.withResolvers<void>();
    const lost = codeOf(sandbox.exec({ command: "echo up; sleep 60", onStdout: () => up.resolve() }));
    await up.promise;
    await sandbox.pause({ memory: false });
    expect(await lost).toBe("sandbox_lost");
    expect(await said(sandbox, "echo again")).toBe("again");
  });

  verifies("client/pause-races", "of calls that race, each finds a state that is whole, and a destroyed sandbox stays so", async () => {
    for (const memory of [true, false]) {
      const sandbox = await lab().make();
      await Promise.all([sandbox.pause({ memory }), sandbox.pause({ memory }), sandbox.resume(), sandbox.pause({ memory })]);
      // A command may begin before its sandbox stands still: then it goes on with it.
      const command = codeOf(sandbox.exec({ command: "true" }));
      const codes = await Promise.all([codeOf(sandbox.pause({ memory })), codeOf(sandbox.renew(60_000))]);
      expect(await said(sandbox, "echo alive")).toBe("alive");
      for (const code of [...codes, await command]) expect(["passed", "sandbox_state", "sandbox_lost"]).toContain(code);
      const ends = await Promise.all([codeOf(sandbox.pause({ memory })), codeOf(sandbox.destroy()), codeOf(sandbox.resume())]);
      expect(ends[1]).toBe("passed");
      expect(await codeOf(sandbox.info())).toBe("sandbox_not_found");
      expect(await codeOf(sandbox.resume())).toBe("sandbox_not_found");
    }
  });

  verifies(
    "client/pause-timeout",
    "the end of its life pauses it where that was asked for, and its next use begins a new life",
    async () => {
      const sandbox = await lab().make({ timeoutMs: 300, onTimeout: "pause" });
      const pid = await said(sandbox, `echo kept > file; ${DAEMON}`);
      await expect.poll(() => stateOf(sandbox), SOON).toBe("paused with memory");
      await sandbox.resume({ timeoutMs: 60_000 });
      expect(await said(sandbox, `cat file; kill -0 ${pid} && echo alive`)).toBe("kept\nalive");
      const { endAt } = await sandbox.info();
      expect(Date.parse(endAt ?? "")).toBeGreaterThan(Date.now() + 30_000);
    },
  );

  verifies("client/pause-end", "a sandbox that is paused is destroyed like any other, and is another owner's to nobody", async () => {
    const bob = await lab().of("bob");
    for (const memory of [true, false]) {
      const sandbox = await lab().make();
      const other = bob.sandbox(sandbox.id);
      expect([await codeOf(other.pause()), await codeOf(other.resume())]).toEqual(["sandbox_not_found", "sandbox_not_found"]);
      await sandbox.pause({ memory });
      expect(await codeOf(other.exec({ command: "true" }))).toBe("sandbox_not_found");
      await sandbox.destroy();
      expect(await codeOf(sandbox.exec({ command: "true" }))).toBe("sandbox_not_found");
    }
  });
}
