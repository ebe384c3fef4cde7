// The commands that speak to a server, as a person or a script uses them: over the local server, over a named one, and on a machine that
// can hold no sandbox.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { type ServerProcess, startServerProcess } from "../fixtures/server.ts";
import { smallRoot } from "../fixtures/small-root.ts";
import { verifies } from "../verifies.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const SB = /^sb[a-z0-9]{20}\n$/;

let dir: string;
let data: string;
let server: ServerProcess;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-cli-server-");
  data = join(dir, "data");
  server = await startServerProcess(data);
});
afterAll(async () => {
  await server.end("SIGTERM");
  rmSync(dir, { recursive: true, force: true });
});

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function corral(words: readonly string[], env: Readonly<Record<string, string>> = {}, input = ""): Ran {
  const { CORRAL_URL: _, CORRAL_KEY: __, ...rest } = process.env;
  return spawnSync(join(ROOT, "corral"), words, { encoding: "utf8", env: { ...rest, ...env }, input, timeout: 60_000 });
}

describe("commands over a server", () => {
  verifies(
    "cli/nouns",
    "sandboxes are made, listed, used, renewed, paused and destroyed by the local server, without a key to type",
    () => {
      const made = corral(["create", "--data", data, "--label", "job=7", "--env", "WHO=ann"]);
      expect(made).toMatchObject({ status: 0, stdout: expect.stringMatching(SB) as string });
      const id = made.stdout.trim();
      const short = id.slice(0, 8);
      expect(corral(["ps", "--data", data, "--label", "job=7"]).stdout).toContain(`${id}  running`);
      const ran = corral(["exec", short, "--data", data, "-i", "--", "sh", "-c", "cat; echo $WHO >&2; exit 7"], {}, "in\n");
      expect(ran).toEqual(expect.objectContaining({ status: 7, stdout: "in\n", stderr: "ann\n" }));
      expect(corral(["renew", short, "never", "--data", data]).stderr).toContain("never ends");
      expect(corral(["pause", short, "--no-memory", "--data", data]).stderr).toContain("without its processes");
      expect(corral(["ps", "--data", data]).stdout).toContain(`${id}  paused`);
      expect(corral(["resume", short, "--data", data]).stderr).toContain("it runs");
      expect(corral(["rm", short, "--data", data]).status).toBe(0);
      expect(corral(["exec", id, "--data", data, "--", "true"])).toMatchObject({
        status: 125,
        stderr: expect.stringContaining("sandbox_not_found") as string,
      });
    },
  );

  verifies("cli/template", "a template is made of a tar, listed, used and deleted; one whose tar is refused is not left", () => {
    const there = { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "" };
    const tar = join(dir, "root.tar");
    writeFileSync(tar, smallRoot());
    const made = corral(["template", "create", "small", "--tar", tar, "--env", "WHO=template"], there);
    expect(made).toMatchObject({ status: 0, stdout: expect.stringMatching(/^tpl[a-z0-9]{20}\n$/) as string });
    const template = made.stdout.trim();
    expect(corral(["template", "list"], there).stdout).toMatch(new RegExp(`${template} +ready[\\s\\S]*host +ready`));
    const id = corral(["create", "--template", template], there).stdout.trim();
    expect(corral(["exec", id, "--", "sh", "-c", "cat /etc/release; echo $WHO"], there).stdout).toBe("small\ntemplate\n");
    expect(corral(["rm", id], there).status).toBe(0);
    expect(corral(["template", "rm", template], there).status).toBe(0);
    writeFileSync(tar, "no tar".repeat(200));
    expect(corral(["template", "create", "bad", "--tar", tar], there).stderr).toContain("codebase_unreadable");
    expect(JSON.parse(corral(["template", "list", "--json"], there).stdout)).toMatchObject([{ id: "host" }]);
  });

  verifies("cli/snapshot", "snapshots are taken, listed, used, gone back to and deleted, and sandboxes are forked", () => {
    const there = { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "" };
    const id = corral(["create"], there).stdout.trim();
    const exec = (sandbox: string, command: string): string => corral(["exec", sandbox, "--", "sh", "-c", command], there).stdout;
    exec(id, "echo one > a");
    const taken = corral(["snapshot", "take", id, "--name", "built"], there);
    expect(taken).toMatchObject({ status: 0, stdout: expect.stringMatching(/^snap[a-z0-9]{20}\n$/) as string });
    const snapshot = taken.stdout.trim();
    expect(corral(["snapshot", "list", "--sandbox", id], there).stdout).toMatch(new RegExp(`${snapshot} +${id} .* built\n`));
    exec(id, "echo two > a");
    const made = corral(["create", "--snapshot", snapshot.slice(0, 12)], there).stdout.trim();
    const forks = corral(["fork", id, "--count", "2"], there).stdout.trim().split("\n");
    expect([exec(made, "cat a"), ...forks.map((fork) => exec(fork, "cat a"))]).toEqual(["one\n", "two\n", "two\n"]);
    expect(corral(["restore", id, snapshot], there).stderr).toContain("it is running");
    expect(exec(id, "cat a")).toBe("one\n");
    expect(corral(["snapshot", "rm", snapshot], there).stderr).toContain("snapshot_state");
    expect(corral(["rm", id, made, ...forks], there).status).toBe(0);
    expect(corral(["snapshot", "rm", snapshot], there).status).toBe(0);
    expect(corral(["snapshot", "rm", snapshot], there).stderr).toContain("snapshot_not_found");
  });

  verifies("cli/server", "--server and CORRAL_URL name another server, whose key is in the environment and nowhere else", () => {
    const { url, key } = server;
    const issued = corral(["token", "issue", "bob", "--server", url], { CORRAL_KEY: key ?? "" });
    expect(issued.status).toBe(0);
    const bob = { CORRAL_URL: url, CORRAL_KEY: issued.stdout.trim() };
    const id = corral(["create"], bob).stdout.trim();
    expect(corral(["ps"], bob).stdout).toContain(`${id}  running  bob`);
    expect(corral(["token", "issue", "eve"], bob).stderr).toContain("forbidden");
    expect(corral(["rm", id], bob).status).toBe(0);
    expect(corral(["ps", "--server", url]).stderr).toContain("CORRAL_KEY");
    expect(corral(["ps", "--server", "ftp://x"], { CORRAL_KEY: "k" }).status).toBe(2);
    expect(corral(["ps", "--server", "http://127.0.0.1:9"], { CORRAL_KEY: "k" }).stderr).toContain("server_unreachable");
    expect(corral(["ps", "--data", join(dir, "none")]).stderr).toContain("no server runs over this data directory");
  });

  verifies(
    "cli/server-deltas",
    "what a server's sandbox changed is shown, exported and committed by the commands that serve local runs",
    () => {
      const code = join(dir, "code");
      mkdirSync(code);
      writeFileSync(join(code, "a.txt"), "one\n");
      const there = { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "" };
      const id = corral(["create", "--dir", code, "--policy", "full-access", "--keep"], there).stdout.trim();
      expect(corral(["exec", id, "--", "sh", "-c", "echo two > a.txt; echo new > b.txt"], there).status).toBe(0);
      expect(corral(["diff", id, "--stat"], there).stdout).toMatch(/a\.txt[\s\S]*b\.txt/);
      expect(corral(["diff", id], there).stdout).toContain("-one\n+two\n");
      const tar = corral(["export", id], there).stdout;
      expect(tar).toContain("b.txt");
      expect(tar).toContain("ustar");
      const committed = corral(["commit", id, "a.txt"], there);
      expect(committed).toMatchObject({ status: 0, stderr: expect.stringContaining("accepted 1 change") as string });
      expect(readFileSync(join(code, "a.txt"), "utf8")).toBe("two\n");
      expect(existsSync(join(code, "b.txt"))).toBe(false);
      expect(corral(["rm", id], there).status).toBe(0);
    },
  );

  verifies("cli/elsewhere", "on a machine that is not Linux the commands over a server work, and a local sandbox names them", () => {
    const bob = { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "" };
    const ran = onDarwin(["ps"], bob);
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toContain("ID");
    const refused = onDarwin(["run", ".", "--", "true"]);
    expect(refused.status).toBe(125);
    expect(refused.stderr.trim().split("\n")).toHaveLength(1);
    expect(refused.stderr).toMatch(/runtime_unavailable: .*--server URL/);
  });
});

/** The program as another platform has it: what only Linux has is not there, and no file of a room that needs it is loaded. */
function onDarwin(words: readonly string[], env: Readonly<Record<string, string>> = {}): Ran {
  const preload = pathToFileURL(join(ROOT, "test", "fixtures", "darwin.mjs")).href;
  const args = ["--import", preload, join(ROOT, "src", "main.ts"), ...words];
  return spawnSync(process.execPath, args, { encoding: "utf8", env: { ...process.env, ...env }, timeout: 60_000 });
}
