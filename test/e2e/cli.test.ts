// `corral run` and its siblings as a person meets them: real processes, real sandboxes, real exit codes.

import { execFileSync, spawn } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { lastObject, run, type Scratch, scratch, start } from "./command-line.ts";
import { verifies } from "../verifies.ts";

const FIRST_RUN = join(import.meta.dirname, "..", "..", "examples", "first-run");

// Each test starts several programs; a machine that runs other tests beside them takes its time.
vi.setConfig({ testTimeout: 120_000 });

let place: Scratch;
beforeEach(() => {
  place = scratch();
});
afterEach(() => place[Symbol.dispose]());

/** `corral run DIR OPTION… -- CMD…` over a codebase. */
function corral(dir: string, options: readonly string[], command: readonly string[], input?: string) {
  return run(["run", dir, ...place.data, ...options, "--", ...command], input === undefined ? {} : { input });
}

verifies("cli/first-run", "over the example a secret is no file, src is refused, and output is the only change", async () => {
  const copy = join(place.dir, "first-run");
  cpSync(FIRST_RUN, copy, { recursive: true });
  const { code, stdout, stderr } = await corral(copy, ["--json"], ["sh", "-c", "cat .env; ls -a; echo x > output/x; echo y > src/y"]);
  const object = lastObject(stdout);
  const shown = stdout.toString().split("\n").slice(0, -2);
  expect(stderr).toContain("cat: .env: No such file or directory");
  expect(stderr).toMatch(/src\/y: Permission denied/);
  expect(shown).toContain("src");
  expect(shown).not.toContain(".env");
  expect(object["changes"]).toEqual([{ path: "/output/x", kind: "add", type: "file" }]);
  expect(object).toMatchObject({
    exitCode: code,
    signal: null,
    timedOut: false,
    limitHit: null,
    committed: false,
    refused: [],
    engine: "kernel",
  });
  expect(Object.keys(object)).toEqual([
    "exitCode",
    "signal",
    "timedOut",
    "limitHit",
    "durationMs",
    "timings",
    "engine",
    "runtime",
    "changes",
    "committed",
    "refused",
  ]);
  expect(object["timings"]).toMatchObject({ createMs: expect.any(Number), execMs: expect.any(Number) });
  expect(existsSync(join(copy, "output"))).toBe(false);
  expect(existsSync(join(copy, "src", "y"))).toBe(false);
});

it("the same holds with --runtime bwrap", async (context) => {
  const copy = join(place.dir, "first-run");
  cpSync(FIRST_RUN, copy, { recursive: true });
  const { stdout, stderr } = await corral(
    copy,
    ["--json", "--runtime", "bwrap"],
    ["sh", "-c", "cat .env; echo x > output/x; echo y > src/y"],
  );
  if (stderr.includes("bubblewrap is not installed")) return context.skip("bubblewrap is not installed");
  expect(stderr).toContain("cat: .env: No such file or directory");
  expect(lastObject(stdout)).toMatchObject({ runtime: "bwrap", changes: [{ path: "/output/x", kind: "add", type: "file" }] });
});

verifies("cli/exit-code", "run ends with the program's own code: its status, 128 and the signal, 126, 127", async () => {
  const dir = place.codebase({ "plain.txt": "no program", "broken.sh": "#!/nonexistent/interpreter\n" });
  chmodSync(join(dir, "broken.sh"), 0o755);
  const codeOf = async (...command: string[]) => {
    const { code, stderr } = await corral(dir, [], command);
    return [code, stderr.split("\n").find((line) => line.startsWith(`corral: ${command[0]}: `)) ?? ""];
  };
  expect(await codeOf("sh", "-c", "exit 3")).toEqual([3, ""]);
  expect(await codeOf("sh", "-c", "kill -TERM $$")).toEqual([143, ""]);
  expect(await codeOf("no-such-program")).toEqual([127, "corral: no-such-program: command not found"]);
  expect(await codeOf("./plain.txt")).toEqual([126, "corral: ./plain.txt: permission denied"]);
  expect((await codeOf("./broken.sh"))[0]).toBe(127);
  expect((await codeOf("/workspace"))[0]).toBe(126);
});

verifies("cli/output-unchanged", "the program's bytes pass unchanged, and the object of --json has a line of its own", async () => {
  const dir = place.codebase({ "bytes.bin": "" });
  const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 251));
  writeFileSync(join(dir, "bytes.bin"), bytes);
  const plain = await corral(dir, [], ["cat", "bytes.bin"]);
  expect(plain.stdout.equals(bytes)).toBe(true);
  const withObject = await corral(dir, ["--json"], ["cat", "bytes.bin"]);
  expect(withObject.stdout.subarray(0, bytes.length).equals(bytes)).toBe(true);
  expect(withObject.stdout.subarray(bytes.length, bytes.length + 2).toString()).toBe("\n{");
  const ended = await corral(dir, ["--json"], ["echo", "line"]);
  expect(ended.stdout.toString()).toMatch(/^line\n\{.*\}\n$/);
});

it("stdin is the program's, stdout and stderr stay apart, and nothing of our environment enters", async () => {
  const dir = place.codebase({ a: "" });
  const { stdout, stderr, code } = await run(["run", dir, ...place.data, "--", "sh", "-c", "tr a-z A-Z; echo err >&2; env; pwd"], {
    input: "hello\n",
    env: { SECRET_OF_OURS: "1", LD_PRELOAD: "" },
  });
  expect(code).toBe(0);
  expect(stdout.toString()).toMatch(/^HELLO\n/);
  expect(stdout.toString()).toMatch(/\/workspace\n$/);
  expect(stdout.toString()).not.toContain("SECRET_OF_OURS");
  expect(stderr).toMatch(/^err$/m);
});

verifies(
  "cli/timeout",
  "a program that overruns --timeout ends with 124, its output so far is there, and none of its tree is left",
  async () => {
    const dir = place.codebase({ a: "" });
    const { code, stdout, stderr } = await corral(
      dir,
      ["--timeout", "500ms", "--json"],
      ["sh", "-c", "echo early; (trap '' INT TERM; setsid sleep 61.7) & sleep 61.7"],
    );
    expect(code).toBe(124);
    expect(stdout.toString()).toMatch(/^early\n/);
    expect(lastObject(stdout)).toMatchObject({ exitCode: 124, timedOut: true });
    expect(stderr).toContain("timed out");
    expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain("sleep 61.7");
  },
);

verifies("cli/memory", "a program that passes --memory is told by limitHit", async (context) => {
  const dir = place.codebase({ a: "" });
  const { stdout, stderr } = await corral(
    dir,
    ["--memory", "64M", "--json"],
    ["sh", "-c", "head -c 300000000 /dev/zero | tail -c 299999999 | wc -c"],
  );
  if (stderr.includes("memory-not-limited")) return context.skip("this user has no memory cgroup, and the run said so");
  expect(lastObject(stdout)).toMatchObject({ limitHit: "memory" });
});

verifies("cli/without-terminal", "without a terminal changes are discarded, unless --yes accepts or --keep keeps them", async () => {
  const dir = place.codebase({ "a.txt": "one\n" });
  const write = ["sh", "-c", "echo hi > output/new"];
  const plain = await corral(dir, [], write);
  expect(plain.stderr).toContain("1 added; discarded");
  expect(existsSync(join(dir, "output"))).toBe(false);
  const accepted = await corral(dir, ["--yes", "--json"], write);
  expect([accepted.code, lastObject(accepted.stdout)["committed"]]).toEqual([0, true]);
  expect(readFileSync(join(dir, "output", "new"), "utf8")).toBe("hi\n");
  const kept = await corral(dir, ["--keep"], ["sh", "-c", "echo again > output/second"]);
  const id = /corral diff (sb[a-z0-9]{20})/.exec(kept.stderr)?.[1] ?? "";
  expect(kept.stderr).toContain(`corral commit ${id}`);
  expect(kept.stderr).toContain(`corral discard ${id}`);
  expect((await run(["diff", id, ...place.data])).stdout.toString()).toContain("+again");
  expect((await run(["diff", ...place.data])).stdout.toString()).toContain(id);
  expect((await run(["commit", id.slice(0, 12), ...place.data])).code).toBe(0);
  expect(readFileSync(join(dir, "output", "second"), "utf8")).toBe("again\n");
  expect((await run(["diff", id, ...place.data])).stderr).toContain("delta_not_found");
});

it("discard throws a kept delta away and the codebase stays as it is", async () => {
  const dir = place.codebase({ "a.txt": "one\n" });
  const kept = await corral(dir, ["--keep", "--policy", "development"], ["sh", "-c", "echo two > a.txt"]);
  const id = /corral discard (sb[a-z0-9]{20})/.exec(kept.stderr)?.[1] ?? "";
  expect((await run(["diff", "--stat", id, ...place.data])).stdout.toString()).toContain("M /a.txt");
  expect((await run(["discard", id, ...place.data])).code).toBe(0);
  expect((await run(["discard", id, ...place.data])).code).toBe(1);
  expect(readFileSync(join(dir, "a.txt"), "utf8")).toBe("one\n");
});

verifies(
  "cli/base-changed",
  "a file that the host changed meanwhile is a conflict: nothing is overwritten, the changes are kept, exit 125",
  async () => {
    const dir = place.codebase({ "a.txt": "one\n", "b.txt": "one\n" });
    const { child, said, ended } = start(
      [
        "run",
        dir,
        ...place.data,
        "--policy",
        "development",
        "--yes",
        "--json",
        "--",
        "sh",
        "-c",
        "echo two > a.txt; echo two > b.txt; echo ready; cat",
      ],
      { open: true },
    );
    await said("ready");
    writeFileSync(join(dir, "a.txt"), "of the host\n");
    child.stdin?.end();
    const { code, stdout, stderr } = await ended;
    expect(code).toBe(125);
    expect(stderr).toContain("commit_conflict");
    expect(readFileSync(join(dir, "a.txt"), "utf8")).toBe("of the host\n");
    expect(readFileSync(join(dir, "b.txt"), "utf8")).toBe("one\n");
    expect(lastObject(stdout)).toMatchObject({ exitCode: 0, committed: false });
    expect(JSON.stringify(lastObject(stdout)["refused"])).toContain("/a.txt");
    expect(stderr).toMatch(/corral diff sb/);
  },
);

verifies("cli/refused-commit", "a change that the policy refuses by name makes --yes end with 125 and apply nothing", async () => {
  const dir = place.codebase({ "a.txt": "one\n" });
  const { code, stdout, stderr } = await corral(
    dir,
    ["--yes", "--json"],
    ["sh", "-c", "echo k > output/stolen.key; echo ok > output/fine"],
  );
  expect(code).toBe(125);
  expect(stderr).toContain("commit_refused");
  expect(lastObject(stdout)).toMatchObject({ exitCode: 0, committed: false, refused: [{ path: "/output/stolen.key" }] });
  expect(existsSync(join(dir, "output"))).toBe(false);
});

verifies("cli/bad-input", "wrong input is told in one line with its code before anything runs", async () => {
  const dir = place.codebase({ a: "" });
  writeFileSync(join(place.dir, "file"), "");
  writeFileSync(join(place.dir, "bad.corralpolicy"), "read /**\nwrite /src/[abc\n");
  const rows: readonly (readonly [readonly string[], number, string])[] = [
    [[join(place.dir, "missing"), "--", "true"], 125, "codebase_not_found"],
    [[join(place.dir, "file"), "--", "true"], 125, "codebase_unreadable"],
    [[dir, "--policy", "no-such-preset", "--", "true"], 125, "preset_unknown"],
    [[dir, "--policy", "agent-safe@99", "--", "true"], 125, "preset_unknown"],
    [[dir, "--policy", join(place.dir, "bad.corralpolicy"), "--", "true"], 125, "line 2, column"],
    [[dir, "--hide", "/src/[abc", "--", "true"], 125, "policy_invalid"],
    [[dir, "--hide", "/workspace/src", "--", "true"], 125, "/workspace is where the codebase is mounted"],
    [[dir, "--memory", "lots", "--", "true"], 2, "--memory"],
    [[dir, "--memory", "1M", "--", "true"], 2, "memoryBytes"],
    [[dir, "--timeout", "-1", "--", "true"], 2, "--timeout"],
    [[dir, "--yes", "--keep", "--", "true"], 2, "contradict"],
    [[dir, "--no-such-option", "--", "true"], 2, "--no-such-option"],
    [[dir, "--engine", "fuse", "--", "true"], 2, "--engine"],
    [[dir], 2, "no command"],
  ];
  for (const [words, code, text] of rows) {
    const end = await run(["run", ...words.slice(0, 1), ...place.data, ...words.slice(1)]);
    expect([words, end.code, end.stderr]).toEqual([words, code, expect.stringContaining(text)]);
    expect(end.stderr.trimEnd().split("\n").length).toBeLessThan(3);
    expect(end.stdout.length).toBe(0);
  }
});

it("a directory that cannot be read is named by its code", async (context) => {
  if (process.getuid?.() === 0) return context.skip("root reads every directory");
  const { code, stderr } = await corral("/root", [], ["true"]);
  expect([code, stderr]).toEqual([125, expect.stringContaining("codebase_unreadable")]);
});

verifies(
  "cli/odd-entries",
  "FIFOs, sockets, devices, link loops, odd and invalid names in the codebase hang and break nothing",
  async () => {
    const dir = place.codebase({ "ok.txt": "fine", "new\nline": "n", "-rf": "dash", " space ": "s" });
    execFileSync("mkfifo", [join(dir, "pipe")]);
    if (process.getuid?.() === 0) execFileSync("mknod", [join(dir, "null"), "c", "1", "3"]);
    symlinkSync("loop", join(dir, "loop"));
    symlinkSync("..", join(dir, "up"));
    writeFileSync(Buffer.concat([Buffer.from(`${dir}/bad-`), Buffer.from([0xff, 0xfe])]), "invalid");
    const socket = createServer().listen(join(dir, "sock"));
    const { code, stdout } = await corral(
      dir,
      ["--json"],
      [
        "sh",
        "-c",
        'ls -b; cat ok.txt; for f in *; do [ -f "$f" ] && cat -- "$f" > /dev/null; done; printf x > "output/$(printf \'\\377\')"',
      ],
    );
    socket.close();
    expect(code).toBe(0);
    expect(stdout.toString("latin1")).toContain("new\\nline");
    expect(stdout.toString("latin1")).toContain("bad-\\377\\376");
    expect(lastObject(stdout)["changes"]).toEqual([{ path: "/output/\\xff", kind: "add", type: "file" }]);
  },
);

verifies("cli/inert-summary", "a file name with escapes is shown spelled out, never sent to the terminal", async () => {
  const dir = place.codebase({ a: "" });
  const { stderr } = await corral(dir, [], ["sh", "-c", "touch \"$(printf 'output/\\033]52;c;eA==\\007\\n\\033[2J')\""]);
  expect(stderr).toContain("\\x1b]52");
  expect(stderr).not.toContain("\x1b");
});

verifies("cli/broken-pipe", "a reader that goes away ends the program as SIGPIPE would", async () => {
  const dir = place.codebase({ a: "" });
  const { child, ended } = start(["run", dir, ...place.data, "--", "yes"]);
  child.stdout?.once("data", () => child.stdout?.destroy());
  const { code } = await ended;
  expect(code).toBe(141);
});

verifies("cli/slow-reader", "a reader that pauses stops the program and loses nothing", async () => {
  const dir = place.codebase({ a: "" });
  const child = spawn(
    "sh",
    [
      "-c",
      `exec "$@" | { sleep 1; sha256sum; }`,
      "sh",
      process.execPath,
      join(import.meta.dirname, "..", "..", "src", "main.ts"),
      "run",
      dir,
      ...place.data,
      "--",
      "sh",
      "-c",
      "head -c 50000000 /dev/zero",
    ],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  let sum = "";
  for await (const chunk of child.stdout) sum += String(chunk);
  expect(sum).toMatch(
    new RegExp(`^${execFileSync("sh", ["-c", "head -c 50000000 /dev/zero | sha256sum"], { encoding: "utf8" }).slice(0, 64)}`),
  );
});

it("a directory that holds Corral's own data is refused", async () => {
  mkdirSync(join(place.dir, "data"), { mode: 0o700 });
  const { code, stderr } = await corral(realpathSync(place.dir), [], ["true"]);
  expect([code, stderr]).toEqual([125, expect.stringContaining("data_unsafe")]);
});

verifies("cli/usage", "a wrong command line ends with 2, help with 0", async () => {
  const codes = await Promise.all(
    [["--help"], ["run", "--help"], [], ["--version"], ["frobnicate"], ["diff", "--nope"], ["policy"], ["discard"]].map(
      async (words) => (await run(words)).code,
    ),
  );
  expect(codes).toEqual([0, 0, 0, 0, 2, 2, 2, 2]);
});
