// git of this machine over repositories that are hostile, without a network: what comes out, what never runs, and what is left.

import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { type GitHere, gitHere } from "../../test/fixtures/git-here.ts";
import { verifies } from "../../test/verifies.ts";
import { fetchGit, type GitRequest } from "./git.ts";

let dir: string;
let build: string;
let repository: GitHere;
beforeAll(() => {
  dir = mkdtempSync("/tmp/corral-git-");
  chmodSync(dir, 0o755); // git reads it as a user of its own
  build = join(dir, "build");
  mkdirSync(build, { mode: 0o700 });
  repository = gitHere(join(dir, "repository"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const asked = (more: Partial<GitRequest> = {}): GitRequest => ({
  url: repository.url,
  dir: join(build, "one"),
  maxBytes: 50_000_000,
  timeoutMs: 60_000,
  ...more,
});

/** Its entries, and the content of one. */
async function fetched(more: Partial<GitRequest>, name: string): Promise<readonly [commit: string, names: string, content: string]> {
  await using tree = await fetchGit(asked(more));
  const pieces: Uint8Array[] = [];
  for await (const piece of tree.tar()) pieces.push(piece);
  const tar = Buffer.concat(pieces);
  const out = (...argv: readonly string[]): string => execFileSync("tar", argv, { input: tar, encoding: "utf8" });
  return [tree.commit, out("-tf", "-").trim().split("\n").join(" "), out("-xOf", "-", name)];
}

verifies(
  "git/files",
  "a fetch gives the files of a commit byte by byte, by branch, tag, hash or what HEAD is, and leaves nothing",
  async () => {
    const all = ".gitattributes .gitmodules a.txt b.txt bin/ bin/run hidden link sub/";
    const [first, second] = [repository.git("rev-parse", "v1").trim(), repository.git("rev-parse", "main").trim()];
    expect(await fetched({}, "a.txt")).toEqual([second, all, "$Format:%H$\none\n"]);
    expect(await fetched({ ref: "v1" }, "hidden")).toEqual([first, all.replace(" b.txt", ""), "shown\n"]);
    expect((await fetched({ ref: second, depth: 2 }, "b.txt"))[2]).toBe("two\n");
    expect(readdirSync(build)).toEqual([]);
  },
);

verifies(
  "git/nothing-runs",
  "no hook, filter, submodule, template or configuration of a repository or of the caller runs anything",
  async () => {
    const ran = join(dir, "ran");
    const program = join(dir, "program");
    writeFileSync(program, `#!/bin/sh\ntouch ${ran}\ncat\n`, { mode: 0o755 });
    chmodSync(program, 0o755);
    const hooks = join(dir, "repository", ".git", "hooks");
    mkdirSync(hooks, { recursive: true });
    for (const hook of ["post-checkout", "reference-transaction", "pre-receive", "post-update"])
      writeFileSync(join(hooks, hook), readFileSync(program), { mode: 0o755 });
    for (const key of ["filter.evil.smudge", "core.fsmonitor", "uploadpack.packObjectsHook", "core.pager", "tar.tar.command"])
      repository.git("config", key, program);
    const before = { ...process.env };
    Object.assign(process.env, {
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "uploadpack.packObjectsHook",
      GIT_CONFIG_VALUE_0: program,
      GIT_SSH_COMMAND: program,
    });
    try {
      expect((await fetched({}, "a.txt"))[2]).toContain("one");
    } finally {
      process.env = before;
      repository.git("config", "--unset", "core.fsmonitor");
    }
    expect([existsSync(ran), existsSync(join(dir, "submodule-ran"))]).toEqual([false, false]);
  },
);

verifies(
  "git/words",
  "an address or a name that could be an option, a command or another protocol is refused before anything is started",
  async () => {
    const urls = [
      "ext::sh -c true",
      "--upload-pack=x",
      "ssh://h/x",
      "git://h/x",
      "http://h/x",
      "/etc",
      "file://h/x",
      "https://u:p@h/x",
      "https://h/a b",
      "https://h/\n",
      "",
    ];
    for (const url of urls) await expect(fetchGit(asked({ url })), url).rejects.toMatchObject({ code: "request_invalid" });
    const refs = ["--exec=x", "-x", "a:b", "+a", "a..b", "a^", "@{1}", "*", "a b", "refs/../x", "a.lock", "", "/a", "a//b"];
    for (const ref of refs) await expect(fetchGit(asked({ ref })), ref).rejects.toMatchObject({ code: "request_invalid" });
    expect(readdirSync(build)).toEqual([]);
  },
);

verifies(
  "git/bounds",
  "too many bytes, too much time, an unknown name and a reader that goes away end a fetch, told and without remains",
  async () => {
    await expect(fetchGit(asked({ ref: "none" }))).rejects.toMatchObject({
      code: "git_failed",
      message: expect.stringContaining("none") as string,
    });
    await expect(fetchGit(asked({ maxBytes: 20 }))).rejects.toMatchObject({ code: "git_failed" });
    await expect(fetchGit(asked({ timeoutMs: 1 }))).rejects.toMatchObject({
      code: "git_failed",
      message: expect.stringContaining("1 ms") as string,
    });
    const blob = repository.git("rev-parse", "HEAD:a.txt").trim();
    repository.git("update-ref", "refs/tags/blob", blob);
    await expect(fetchGit(asked({ ref: "blob" }))).rejects.toMatchObject({ code: "git_failed" });
    const tree = await fetchGit(asked());
    for await (const _ of tree.tar()) break;
    await tree[Symbol.asyncDispose]();
    expect(readdirSync(build)).toEqual([]);
  },
);

verifies(
  "git/rights",
  "as root git has a user of its own without capabilities: what only root may read it cannot fetch",
  async (context) => {
    if (process.geteuid?.() !== 0) return context.skip("git runs as the caller then");
    const secret = gitHere(join(dir, "secret"));
    chmodSync(join(dir, "secret"), 0o700);
    await expect(fetchGit(asked({ url: secret.url }))).rejects.toMatchObject({ code: "git_failed" });
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(build);
  },
);
