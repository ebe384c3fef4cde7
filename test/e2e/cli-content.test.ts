// The commands over what a server holds and does, as a person or a script uses them: one server for all rows.

import { execFile, execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect } from "vitest";
import type { CodebaseResource } from "../../src/api/codebases.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { gitHere } from "../fixtures/git-here.ts";
import { type ServerProcess, startServerProcess } from "../fixtures/server.ts";
import { verifies } from "../verifies.ts";
import { startOnTerminal } from "./command-line.ts";

const MAIN = join(import.meta.dirname, "..", "..", "src", "main.ts");

let dir: string;
let server: ServerProcess;
let env: Readonly<Record<string, string | undefined>>;
let client: Corral;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-cli-content-");
  server = await startServerProcess(join(dir, "data"), ["--set", "git.protocols=https,file"]);
  const key = server.key ?? "";
  env = { ...process.env, CORRAL_URL: server.url, CORRAL_KEY: key };
  client = new Corral({ url: server.url, key });
});
afterAll(async () => {
  await server.end("SIGTERM");
  rmSync(dir, { recursive: true, force: true });
});

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** latin1, so that bytes are told as they are. */
function corral(...words: string[]): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>();
  execFile(process.execPath, [MAIN, ...words], { env, encoding: "latin1", timeout: 60_000 }, (error, stdout, stderr) => {
    resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
  });
  return promise;
}

async function done(...words: string[]): Promise<Ran> {
  const ran = await corral(...words);
  expect(ran, words.join(" ")).toMatchObject({ code: 0 });
  return ran;
}

function smallTree(): string {
  const tree = join(dir, "tree");
  if (existsSync(tree)) return tree;
  mkdirSync(join(tree, "sub"), { recursive: true });
  mkdirSync(join(tree, "empty"));
  writeFileSync(join(tree, "tool"), "#!/bin/sh\n");
  chmodSync(join(tree, "tool"), 0o755);
  writeFileSync(join(tree, "sub", "large"), Buffer.alloc(400_000, "large "));
  symlinkSync("../tool", join(tree, "sub", "link"));
  execFileSync("mkfifo", [join(tree, "fifo")]);
  return tree;
}

verifies("cli/cp", "files and trees are copied into a sandbox and out of it, links and modes with them; ls and cat show them", async () => {
  await using sandbox = await client.create({});
  const { id } = sandbox;
  const into = await done("cp", smallTree(), `${id}:`);
  expect(into.stderr).toMatch(/left out: .*fifo \(neither[\s\S]*copied 6 entries/);
  const { stdout } = await sandbox.exec({ command: "cd tree && stat -c '%n %A' tool sub/large sub/link empty && cat sub/link" });
  expect(Buffer.from(stdout).toString()).toBe("tool -rwxr-xr-x\nsub/large -rw-r--r--\nsub/link lrwxrwxrwx\nempty drwxr-xr-x\n#!/bin/sh\n");
  const [short, long, large, out] = await Promise.all([
    done("ls", `${id.slice(0, 10)}:tree`),
    done("ls", `${id}:/workspace/tree/sub`, "-l"),
    done("cat", `${id}:tree/tool`, `${id}:tree/sub/large`),
    done("cp", `${id}:tree`, join(dir, "out")),
  ]);
  expect(short.stdout).toBe("empty/\nsub/\ntool\n");
  expect(long.stdout).toMatch(/-0644 .* 400000 .* large\nl.* link -> \.\.\/tool\n/);
  expect(large.stdout).toBe(`#!/bin/sh\n${Buffer.alloc(400_000, "large ").toString()}`);
  expect(out.stderr).toContain("copied 6 entries");
  expect(readFileSync(join(dir, "out", "sub", "large"))).toEqual(readFileSync(join(smallTree(), "sub", "large")));
  expect(readlinkSync(join(dir, "out", "sub", "link"))).toBe("../tool");
  const refused = await Promise.all([
    corral("cp", "a", "b"),
    corral("cp", `${id}:a`, `${id}:b`),
    corral("cat", "a"),
    corral("cat", `${id}:none`),
  ]);
  expect(refused.map(({ code }) => code)).toEqual([2, 2, 2, 1]);
  expect(refused[3].stderr).toContain("file_not_found");
});

verifies(
  "cli/cp-hostile",
  "what a sandbox made does not leave the target of a copy: not by a link, a name or what stands there already",
  async () => {
    await using sandbox = await client.create({});
    const { id } = sandbox;
    const make =
      "mkdir -p h/d && cd h && ln -s /etc/passwd absolute && ln -s ../.. up && ln -s .. d/fine && ln -s fine/../../x d/behind && ln -s d inside \
&& printf 'x' > \"$(printf 'a\\033]0;b\\nc')\" && printf x > \"$(printf 'no\\377utf8')\" && printf x > suid && chmod 4755 suid && mkfifo fifo && printf new > d/file";
    expect((await sandbox.exec({ command: make })).exitCode).toBe(0);
    const target = join(dir, "hostile");
    const ran = await done("cp", `${id}:h`, target);
    const left = ran.stderr.split("\n").filter((line) => line.includes("left out"));
    expect(left.map((line) => /left out: \S*\/(\w+) /.exec(line)?.[1]).sort()).toEqual(["absolute", "behind", "fifo", "up"]);
    expect(ran.stderr).not.toContain("\x1b");
    expect(readdirSync(target, { encoding: "latin1" }).sort()).toEqual(["a\x1b]0;b\nc", "d", "inside", "no\xffutf8", "suid"]);
    expect(readlinkSync(join(target, "d", "fine"))).toBe("..");
    expect(lstatSync(join(target, "suid")).mode & 0o7777).toBe(0o755 & ~process.umask());
    // What stands in the target already is not followed either.
    const elsewhere = join(dir, "elsewhere");
    mkdirSync(elsewhere);
    writeFileSync(join(elsewhere, "kept"), "old");
    rmSync(join(target, "d"), { recursive: true });
    symlinkSync(elsewhere, join(target, "d"));
    expect((await corral("cp", `${id}:h/.`, target)).stderr).toMatch(/is in the way/);
    rmSync(join(target, "d"));
    mkdirSync(join(target, "d"));
    symlinkSync(join(elsewhere, "kept"), join(target, "d", "file"));
    await done("cp", `${id}:h/.`, target);
    expect([readFileSync(join(target, "d", "file"), "utf8"), readFileSync(join(elsewhere, "kept"), "utf8")]).toEqual(["new", "old"]);
  },
);

verifies(
  "cli/codebase",
  "a directory, a tar or a commit of a repository becomes a codebase, whose versions are listed, read, exported and deleted",
  async () => {
    const made = await done("codebase", "import", smallTree(), "--name", "small");
    const id = made.stdout.trim();
    expect(made.stderr).toMatch(/left out: .*fifo[\s\S]*sent: \d of 2 files[\s\S]*version 2: 2 files, 400010 bytes/);
    writeFileSync(join(smallTree(), "tool"), "#!/bin/sh -e\n");
    expect((await done("codebase", "import", smallTree(), "--to", id)).stdout.trim()).toBe(id);
    const [listed, inside, old, versions, tar] = await Promise.all([
      done("codebase", "ls"),
      done("codebase", "ls", id, "-r"),
      done("codebase", "cat", id, "tool", "--at", "2"),
      done("codebase", "versions", id, "--json"),
      done("codebase", "export", id),
    ]);
    expect(listed.stdout).toMatch(new RegExp(`${id} +small +\\S+ +3 +2 +400013`));
    expect(inside.stdout).toMatch(/empty\/[\s\S]*sub\/link -> \.\.\/tool/);
    expect(old.stdout).toBe("#!/bin/sh\n");
    expect((JSON.parse(versions.stdout) as { number: number }[]).map(({ number }) => number)).toEqual([3, 2, 1]);
    writeFileSync(join(dir, "small.tar"), Buffer.from(tar.stdout, "latin1"));
    const again = (await done("codebase", "import", join(dir, "small.tar"))).stdout.trim();
    const [first, second] = await Promise.all([id, again].map((one) => client.codebases.entries(one, { recursive: true })));
    const shown = (list: typeof first) => list?.items.map(({ path, mode, hash, target }) => [path, mode, hash, target]);
    expect(shown(second)).toEqual(shown(first));
    writeFileSync(join(dir, "bad.tar"), "no tar".repeat(500));
    expect((await corral("codebase", "import", join(dir, "bad.tar"))).code).toBe(1);
    chmodSync(dir, 0o755); // git runs under an id of its own
    const repository = gitHere(join(dir, "repository"));
    const fetched = JSON.parse(
      (await done("codebase", "import", repository.url, "--ref", "v1", "--depth", "2", "--json")).stdout,
    ) as CodebaseResource;
    expect([fetched.name, fetched.version.source]).toEqual(["repository", `git ${repository.git("rev-parse", "v1").trim()}`]);
    for (const wrong of [
      ["--ref", "v1", smallTree()],
      ["--to", id, repository.url],
      ["--depth", "0", repository.url],
    ])
      expect((await corral("codebase", "import", ...wrong)).stderr).toMatch(/request_invalid|git repository|commits/);
    const words = ["codebase", "import", smallTree(), "--name", "bar"];
    const bar = await startOnTerminal(words, { env: { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "" } }).ended;
    expect(bar.stdout.toString()).toMatch(/\rsent \[#{24}\] 0\/0\r\n/);
    const third = /cb[a-z0-9]{20}/.exec(bar.stdout.toString())?.[0] ?? "";
    await done("codebase", "rm", id, again, third, fetched.id);
    expect(JSON.parse((await done("codebase", "ls", "--json")).stdout)).toEqual([]);
  },
);

verifies("cli/processes", "what runs in a sandbox is listed with what it takes, explained and ended", async () => {
  await using sandbox = await client.create({ policy: { rules: [{ pattern: "**", permission: "read" }] } });
  const { id } = sandbox;
  const [one, two] = await Promise.all(["sleep 61", "sleep 62"].map((command) => sandbox.processes.start({ command })));
  const [shown, top, json, explained] = await Promise.all([
    done("processes", id),
    done("top"),
    done("top", "--json", "--once"),
    done("explain", id, "/src/a"),
  ]);
  expect(shown.stdout).toMatch(/running +\S+ +sleep 61\n.*running +\S+ +sleep 62\n/);
  expect(top.stdout).toMatch(new RegExp(`^ID .*\\n${id}  admin +running +- +\\S+ \\S+ .*/ 4\\.0 GiB`));
  expect(top.stdout).not.toContain("\x1b");
  expect(JSON.parse(json.stdout)).toMatchObject([{ id, ownerId: "admin", state: "running", limits: { cpus: null } }]);
  expect(explained.stdout).toBe("/src/a (file): read - can be read and executed, not changed\n  by `read **` (rule 1)\n");
  const live = startOnTerminal(["top", "--every", "100ms"], { env: { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "" } });
  await live.said(" % "); // what it took since it was drawn before
  live.child.stdin?.write("\x03");
  expect((await live.ended).code).toBe(0);
  expect((await done("kill", id, one?.id ?? "")).stderr).toContain("ended SIG");
  await done("kill", id, two?.id ?? "", "--signal", "KILL");
  expect((await sandbox.processes.wait(two?.id ?? "")).end?.signal).toBe("SIGKILL");
});

verifies("cli/records", "events are told, those to come too, and so is who asked for what", async () => {
  const sandbox = await client.create({});
  const args = [MAIN, "events", "-f", "--json", "--sandbox", sandbox.id];
  const following = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit"] });
  const kinds: string[] = [];
  for await (const line of createInterface({ input: following.stdout })) {
    kinds.push((JSON.parse(line) as { kind: string }).kind);
    if (kinds.length === 1) await sandbox.destroy();
    else break;
  }
  expect(kinds).toEqual(["sandbox-create", "sandbox-destroy"]);
  following.kill("SIGTERM");
  const [told, who] = await Promise.all([done("events", "--kind", "sandbox-destroy"), done("audit", "--subject", sandbox.id)]);
  expect(told.stdout).toMatch(new RegExp(`  sandbox-destroy  admin  ${sandbox.id}\\n`));
  expect(who.stdout).toMatch(new RegExp(`  sandbox-delete  ${sandbox.id}  ok  admin tok`));
});
