// The demo as a newcomer runs it, and the control that makes its doors mean something: the same agent without Corral.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { removeTree } from "./fixtures/remove-tree.ts";
import { ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

const EXAMPLE = join(ROOT, "examples/first-run");
const DEMO_MS = 90_000;

function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "corral-demo-test-"));
  onTestFinished(() => removeTree(dir));
  return dir;
}

function contents(dir: string): Map<string, string> {
  const entries = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(entries.map((entry) => [join(entry.parentPath, entry.name), readFileSync(join(entry.parentPath, entry.name), "utf8")]));
}

describe("the demo", () => {
  verifies(
    "house/demo",
    "shows an agent that is shut in, accepts its work, checks every claim, and leaves the example alone",
    () => {
      const before = contents(EXAMPLE);
      const temp = tempDir();
      const env = { ...process.env, TMPDIR: temp, NO_COLOR: "1" };
      const done = spawnSync(process.execPath, [join(ROOT, "src/main.ts"), "demo", "--data", join(temp, "data")], {
        encoding: "utf8",
        env,
      });
      expect(done.stderr).toBe("");
      const claims = [...done.stdout.matchAll(/^ {2}(yes|NO ) {2}/gm)].map((match) => match[1]);
      expect(claims.length).toBeGreaterThanOrEqual(11);
      expect(claims.filter((answer) => answer !== "yes")).toEqual([]);
      expect(done.stdout).toContain("+    left -= 1;");
      expect(done.status).toBe(0);
      expect(contents(EXAMPLE)).toEqual(before);
      expect(readdirSync(temp)).toEqual(["data"]);
    },
    DEMO_MS,
  );

  it(
    "leaves no copy behind when it is cut off",
    async () => {
      const temp = tempDir();
      const argv = [join(ROOT, "src/main.ts"), "demo", "--data", join(temp, "data")];
      const child = spawn(process.execPath, argv, { env: { ...process.env, TMPDIR: temp }, stdio: ["ignore", "pipe", "ignore"] });
      for await (const chunk of child.stdout) if (String(chunk).includes("2. The agent runs")) break;
      child.kill("SIGINT");
      expect(await once(child, "exit")).toEqual([130, null]);
      expect(readdirSync(temp)).toEqual(["data"]);
    },
    DEMO_MS,
  );

  it("would prove nothing if the doors were shut for everybody: without Corral the agent gets through them", ({ skip }) => {
    skip(process.getuid?.() !== 0, "password hashes are shut for an ordinary user everywhere");
    const dir = join(tempDir(), "project");
    cpSync(EXAMPLE, dir, { recursive: true });
    const { stdout, status } = spawnSync(process.execPath, ["agent.js"], { cwd: dir, encoding: "utf8" });
    const reached = [...stdout.matchAll(/^ {2}(.+?) \.+ REACHED: /gm)].map((match) => match[1]);
    expect(reached).toEqual(
      expect.arrayContaining([
        "read .env",
        "read secrets/payment-token.txt",
        "read deploy.pem",
        "find hidden names in a listing",
        "weaken a test",
        "put a script into package.json",
        "read password hashes of the host",
        "see processes of the host",
        "become root",
      ]),
    );
    expect(status).toBe(0);
  });
});
