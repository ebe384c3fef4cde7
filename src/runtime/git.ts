// Fetches one commit of a git repository that nobody trusts, for its files: git of this machine as a user who owns nothing, with every
// hook, filter, submodule, helper and redirect off, bounded in time and bytes. What comes out is a tar, read as any hostile tar.
// No working tree is ever made. Invariant: a word from outside is a value of ours or an argument behind `--`, never an option, a
// protocol or a command; nothing of a fetch is left when it is disposed of, and it ends with this process.

import { spawn, type ChildProcess } from "node:child_process";
import { chmod, chown, mkdir, rm, writeFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CorralError } from "../api/errors.ts";

export interface GitRequest {
  readonly url: string;
  /** A branch, a tag or a commit's whole hash; default: what the repository calls HEAD. */
  readonly ref?: string;
  /** Commits of history that are fetched on the way to the tree; default 1. */
  readonly depth?: number;
  /** Of this fetch alone; must not exist. */
  readonly dir: string;
  /** Of any file that git writes. */
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

export interface GitTree extends AsyncDisposable {
  /** Whole hash. */
  readonly commit: string;
  /** The files of the commit; once. Throws what a cut-off one is. */
  tar(): AsyncIterable<Uint8Array>;
}

/** SAFETY: behind the ids of all sandboxes, and nobody's: what took git over owns nothing and can signal nobody. */
const GIT_ID = 1_879_048_192 + 65_536;
/** git and what it starts. */
const MAX_MEMORY_BYTES = 4 * 1024 ** 3;
const TOLD_LENGTH = 300;
/** SAFETY: fixed text; words from outside are its arguments. The repository lies in a directory that only root can reach, so it is shown at another place. */
const AS_ROOT =
  'mount --bind "$1" "$2"; cd "$2"; id=$3; shift 3; exec setpriv --reuid "$id" --regid "$id" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"';

/** Of every git below: a global file, since what it starts for `file:` forgets the command line's. */
const CONFIG = `[core]
	hooksPath = /dev/null
	attributesFile = /dev/null
	fsmonitor = false
	askPass = /bin/false
[credential]
	helper =
[http]
	followRedirects = false
	lowSpeedLimit = 1000
	lowSpeedTime = 30
[fetch]
	recurseSubmodules = false
	writeCommitGraph = false
	unpackLimit = 1
[submodule]
	recurse = false
[gc]
	auto = 0
[maintenance]
	auto = false
[safe]
	directory = *
[tar]
	umask = 0022
`;
/** SAFETY: above every file of the tree that says the same: git changes no byte of a file and runs nothing on its way. */
const ATTRIBUTES = "* -export-ignore -export-subst -text -eol -filter -ident -working-tree-encoding\n";

/** Throws `request_invalid`, `git_failed`, `runtime_unavailable`. */
export async function fetchGit(request: GitRequest): Promise<GitTree> {
  const { url, ref = "HEAD", depth = 1, dir } = request;
  const protocol = demandPlain(url, ref);
  const run = await opened(request, protocol);
  try {
    await words(run, ["init", "--quiet", "--bare", "--template=", "r"]);
    await mkdir(join(dir, "r", "info"), { recursive: true });
    await readable(join(dir, "r", "info"), join(dir, "r", "info", "attributes"), ATTRIBUTES);
    const fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", `--depth=${depth}`];
    await words(run, ["--git-dir=r", ...fetch, "--", url, `+${ref}:refs/corral/import`]);
    const commit = (await words(run, ["--git-dir=r", "rev-parse", "--verify", "--quiet", "refs/corral/import^{commit}"])).trim();
    if (!/^[0-9a-f]{40,64}$/.test(commit)) throw new CorralError("git_failed", "ref: it is no commit; name a branch, a tag or a commit");
    return {
      commit,
      tar: () => archive(run, commit),
      [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
    };
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
}

/** SAFETY: words from the wire. No host name, user, password, option, second refspec or pattern gets through. */
function demandPlain(url: string, ref: string): "https" | "file" {
  const isRef = /^[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}$/.test(ref) && !/\.\.|\/\/|\.lock$|\/$|\.$|\/\./.test(ref);
  if (!isRef) throw new CorralError("request_invalid", "git.ref: not the name of a branch or a tag, nor the hash of a commit");
  const isUrl = /^(https:\/\/[A-Za-z0-9.-]{1,253}(:\d{1,5})?|file:\/\/)\/[\x21-\x7e]{0,2048}$/.test(url) && !url.includes("\\");
  if (!isUrl)
    throw new CorralError(
      "request_invalid",
      "git.url: an address such as https://host/path.git or file:///path is asked for, without a user or password",
    );
  return url.startsWith("https:") ? "https" : "file";
}

interface Run {
  readonly request: GitRequest;
  readonly endMs: number;
  readonly before: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

async function opened(request: GitRequest, protocol: string): Promise<Run> {
  const { dir, url, maxBytes, timeoutMs } = request;
  const isRoot = process.geteuid?.() === 0;
  await mkdir(dirname(dir), { recursive: true, mode: 0o700 });
  await mkdir(dir, { mode: 0o700 });
  if (isRoot) await chown(dir, GIT_ID, GIT_ID);
  await readable(undefined, join(dir, "config"), CONFIG);
  // Not where the repository itself lies.
  const source = protocol === "file" ? await realpath(pathOf(url)).catch(() => "") : "";
  const place = isRoot ? (source.startsWith("/mnt") ? "/media" : "/mnt") : dir;
  const own = ["unshare", "--pid", "--fork", "--kill-child"];
  const limits = ["prlimit", `--fsize=${maxBytes}`, `--as=${MAX_MEMORY_BYTES}`, "--core=0", "git"];
  // SAFETY: with its pid namespace everything that git started ends; and all of it ends with this process, killed or not.
  const before = isRoot
    ? ["--pdeathsig", "KILL", ...own, "--mount", "--", "sh", "-ec", AS_ROOT, "git", dir, place, String(GIT_ID), ...limits]
    : ["--pdeathsig", "KILL", "--no-new-privs", ...own, "--user", "--map-current-user", "--", ...limits];
  const env = {
    PATH: "/usr/local/bin:/usr/bin:/bin",
    LANG: "C",
    HOME: place,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: join(place, "config"),
    GIT_ALLOW_PROTOCOL: protocol,
    GIT_PROTOCOL_FROM_USER: "0",
    GIT_TERMINAL_PROMPT: "0",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_ATTR_NOSYSTEM: "1",
  };
  return { request, endMs: performance.now() + timeoutMs, before, env };
}

function pathOf(url: string): string {
  try {
    return decodeURIComponent(new URL(url).pathname);
  } catch {
    return ""; // git says what is wrong with it
  }
}

/** By git, whatever our umask. */
async function readable(dir: string | undefined, file: string, content: string): Promise<void> {
  if (dir !== undefined) await chmod(dir, 0o755);
  await writeFile(file, content, { flag: "wx" });
  await chmod(file, 0o644);
}

async function words(run: Run, argv: readonly string[]): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of output(run, argv)) {
    pieces.push(piece);
    if (pieces.length > 64) throw new CorralError("git_failed", "git said more than it has to say");
  }
  return Buffer.concat(pieces).toString("latin1");
}

function archive(run: Run, commit: string): AsyncIterable<Buffer> {
  return output(run, ["--git-dir=r", "archive", "--format=tar", commit]);
}

/** Ends in time, or with whoever reads it. */
async function* output(run: Run, argv: readonly string[]): AsyncGenerator<Buffer> {
  const child = spawn("setpriv", [...run.before, ...argv], { cwd: run.request.dir, env: run.env, stdio: ["ignore", "pipe", "pipe"] });
  const done = ending(child);
  done.catch(() => undefined); // awaited below, unless the reader went away
  let late = false;
  const stop = setTimeout(
    () => {
      late = true;
      child.kill("SIGKILL");
    },
    Math.max(1, run.endMs - performance.now()),
  );
  try {
    for await (const piece of child.stdout) yield piece as Buffer;
    const { code, said } = await done;
    if (late)
      throw new CorralError("git_failed", `git took more than ${run.request.timeoutMs} ms; fetch less, or ask for a longer git.timeoutMs`);
    if (code !== 0) throw new CorralError("git_failed", `git ended with ${code ?? "a signal"}: ${said || "it did not say why"}`);
  } finally {
    clearTimeout(stop);
    child.kill("SIGKILL");
    await done.catch(() => undefined);
  }
}

/** With the last line of its complaint. */
function ending(child: ChildProcess): Promise<{ readonly code: number | null; readonly said: string }> {
  let said = "";
  child.stderr?.on("data", (piece: Buffer) => (said = `${said}${piece.toString("latin1")}`.slice(-TOLD_LENGTH)));
  return new Promise((resolve, reject) => {
    child.once("error", (cause) => reject(new CorralError("runtime_unavailable", "setpriv of this machine cannot be started", { cause })));
    child.once("close", (code) => resolve({ code, said: said.trim().split("\n").at(-1) ?? "" }));
  });
}
