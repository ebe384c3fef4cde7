// The stories in examples/, as their READMEs tell them, against a real server. Only the model's answers are made up.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { startModel } from "./fixtures/model.ts";
import { type ServerProcess, startServerProcess } from "./fixtures/server.ts";
import { ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

let dir: string;
let server: ServerProcess;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-examples-");
  server = await startServerProcess(join(dir, "data"));
});
afterAll(async () => {
  await server.end("SIGTERM");
  rmSync(dir, { recursive: true, force: true });
});

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Not the synchronous kind: the model answers from this process. */
function run(program: string, words: readonly string[], env: Readonly<Record<string, string>>): Promise<Ran> {
  const child = spawn(program, words, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}

describe("examples", () => {
  verifies(
    "examples/agent-loop",
    "an agent's loop runs what the model asks for in a sandbox and tells the model what came of it",
    async () => {
      await using model = await startModel([
        { command: "echo 3 > /tmp/n; cat /etc/shadow" },
        { garbled: "{" },
        { command: "cat /tmp/n" },
        { say: "The number is 3." },
      ]);
      const env = { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "", MODEL_URL: model.url };
      const done = await run(process.execPath, ["examples/agent-loop/agent.ts", "keep a number"], env);
      expect(done).toMatchObject({ code: 0, stderr: "" });
      expect(done.stdout.trim().split("\n").at(-1)).toBe("The number is 3.");
      const told = model.requests
        .at(-1)
        ?.messages.filter(({ role }) => role === "tool")
        .map(({ content }) => content);
      expect(told?.[0]).toMatch(/^exit code 1\ncat: .*\/etc\/shadow/);
      expect(told?.[1]).toContain("unknown call");
      expect(told?.[2]).toBe("exit code 0\n3\n");
    },
  );

  verifies("examples/ci-job", "a job's steps run apart over a checkout that none can change, and its end tells which failed", async () => {
    const code = join(dir, "code");
    mkdirSync(code);
    writeFileSync(join(code, "a.txt"), "a\n");
    const env = { CORRAL_DATA: join(dir, "data") };
    const job = (steps: readonly string[]): Promise<Ran> => run("examples/ci-job/job.sh", [code, ...steps], env);
    expect(await job(["grep a a.txt", "ls"])).toMatchObject({ code: 0, stdout: "passed  grep a a.txt\npassed  ls\n" });
    const failed = await job(["echo changed > a.txt", "ls", "exit 7"]);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toMatch(
      /^FAILED \(\d\) {2}echo changed > a.txt\n {4}.*Permission denied\npassed {2}ls\nFAILED \(7\) {2}exit 7\n/,
    );
    expect(readFileSync(join(code, "a.txt"), "utf8")).toBe("a\n");
  });
});
