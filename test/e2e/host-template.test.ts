// Programs of the host that live under a home directory, as a person meets them: a Node.js in nvm, and in a folder of one's own.
// The layouts are made; node and npm in them are real. Invariant: what is made in the home of whoever runs the tests is removed.

import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, linkSync, mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync } from "node:fs";
import { symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, type TestContext } from "vitest";
import { BWRAP_MISSING } from "../bwrap.ts";
import { verifies } from "../verifies.ts";
import { lastObject, run, type Scratch, scratch } from "./command-line.ts";

/** Not below /tmp: that is the sandbox's own, so nothing of the host is shown there. */
let home = "";
let place: Scratch;

beforeAll(() => {
  home = realpathSync(mkdtempSync(join(homedir(), ".corral-test-")));
});
afterAll(() => rmSync(home, { recursive: true, force: true }), 60_000);
beforeEach(() => {
  place = scratch();
});
afterEach(() => place[Symbol.dispose]());

/** npm's own folder on this machine, when it is one that can be moved. */
function hostNpm(): string | undefined {
  const places = [
    "/usr/lib/node_modules/npm",
    "/usr/local/lib/node_modules/npm",
    join(dirname(process.execPath), "../lib/node_modules/npm"),
  ];
  return places.find((path) => existsSync(join(path, "node_modules")) && existsSync(join(path, "bin/npm-cli.js")));
}

/** A Node.js installation as its archive unpacks, at `prefix`. */
function installNode(prefix: string, npm: string): void {
  for (const name of ["bin", "lib/node_modules", "include/node"]) mkdirSync(join(prefix, name), { recursive: true });
  const node = join(prefix, "bin/node");
  try {
    linkSync(process.execPath, node);
  } catch {
    copyFileSync(process.execPath, node); // another file system, or not ours to link
    chmodSync(node, 0o755);
  }
  execFileSync("cp", ["-a", npm, join(prefix, "lib/node_modules/npm")]);
  symlinkSync("../lib/node_modules/npm/bin/npm-cli.js", join(prefix, "bin/npm"));
}

const SCRIPT = "node -p \"process.execPath + ' ' + require('fs').existsSync(process.env.CORRAL_HOME + '/secret')\"";

async function testWith(code: string, prefix: string, runtime: string): Promise<void> {
  const PATH = `${join(prefix, "bin")}:/usr/bin:/bin`;
  const command = ["sh", "-c", `command -v npm; CORRAL_HOME=${home} npm test --silent`];
  const ended = await run(["run", code, ...place.data, "--json", "--runtime", runtime, "--", ...command], { env: { PATH, HOME: home } });
  expect({ code: ended.code, stderr: ended.stderr }).toMatchObject({ code: 0 });
  expect(ended.stdout.toString().split("\n").slice(0, 2)).toEqual([join(prefix, "bin/npm"), `${join(prefix, "bin/node")} false`]);
  expect(lastObject(ended.stdout)).toMatchObject({ runtime, exitCode: 0 });
}

/** With the codebase, and a Node.js in nvm. */
async function nvmHome(context: TestContext): Promise<{ readonly code: string; readonly inNvm: string }> {
  const npm = hostNpm();
  if (npm === undefined) return context.skip("this machine has no npm that could be copied");
  writeFileSync(join(home, "secret"), "key");
  const code = place.codebase({ "package.json": JSON.stringify({ name: "x", version: "1.0.0", scripts: { test: SCRIPT } }) });
  const inNvm = join(home, ".nvm/versions/node/v26.0.0");
  installNode(inNvm, npm);
  return { code, inNvm };
}

const NPM_TEST_MS = 120_000;
verifies(
  "runtime/npm-test",
  "npm test works with a Node.js that lives in nvm or in a folder of one's own",
  async (context) => {
    const { code, inNvm } = await nvmHome(context);
    await testWith(code, inNvm, "native");
    const ofOnesOwn = join(home, "opt/my-node");
    mkdirSync(dirname(ofOnesOwn));
    renameSync(inNvm, ofOnesOwn);
    await testWith(code, ofOnesOwn, "native");
  },
  NPM_TEST_MS,
);
verifies(
  "runtime/npm-test",
  "npm test works in bubblewrap with a Node.js that lives in nvm",
  async (context) => {
    if (BWRAP_MISSING !== undefined) context.skip(BWRAP_MISSING);
    const { code, inNvm } = await nvmHome(context);
    await testWith(code, inNvm, "bwrap");
  },
  NPM_TEST_MS,
);

it("shows of a home what the tools need and nothing else", async () => {
  const bin = join(home, ".cargo/bin");
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, "hello"), "#!/bin/sh\necho hello from $0\n");
  chmodSync(join(bin, "hello"), 0o755);
  writeFileSync(join(home, ".cargo/credentials.toml"), "token");
  mkdirSync(join(home, ".ssh"), { mode: 0o755 });
  writeFileSync(join(home, ".ssh/id_rsa"), "key");
  const code = place.codebase({ "a.txt": "a" });
  const command = ["sh", "-c", `hello; ls -A ${home} ${home}/.cargo; cat ${home}/.cargo/credentials.toml ${home}/.ssh/id_rsa; echo $HOME`];
  const ended = await run(["run", code, ...place.data, "--", ...command], { env: { PATH: `${bin}:/usr/bin:/bin`, HOME: home } });
  expect(ended.stdout.toString()).toBe(`hello from ${bin}/hello\n${home}:\n.cargo\n\n${home}/.cargo:\nbin\n/home/user\n`);
});
