// `corral demo`: the main job on a small project, told to a newcomer. An agent-like script runs under `agent-safe` with
// `--allow-write '/src/**'`, tries every door, mends a bug; its changes are shown, accepted, and checked.
// Invariant: the last lines hold only what was checked in this run, and exit 0 means that every check held.

import { createServer, type Server } from "node:net";
import type { Corral } from "../../api/corral.ts";
import type { Change, ExecResult } from "../../api/sandbox.ts";
import { copyProject, fingerprint, makeHistory, secretsOf } from "../demo-project.ts";
import { EXIT_CORRAL, EXIT_FAILED, EXIT_OK } from "../exit-codes.ts";
import type { CliHost, DemoRequest } from "../host.ts";
import { inertLines } from "../../base/inert.ts";
import { coloured, paint } from "../summary.ts";
import { tellError } from "../tell.ts";

const BUDGET_MS = 60_000;
const RULE = "/src/**";
/** What the agent is expected to leave behind, and nothing else. */
const EXPECTED = ["add /output/report.md", "modify /src/split.js"];

interface Check {
  readonly claim: string;
  readonly held: boolean;
  /** What was seen, where that says more than the claim. */
  readonly seen?: string;
}

const colour = (): boolean => coloured(process.stdout);

function line(text = ""): void {
  process.stdout.write(`${text}\n`);
}

function title(text: string): void {
  line(`\n${paint(text, 1, colour())}`);
}

/** Text that came out of the sandbox: inert, and marked as not ours. */
function quote(text: string): void {
  for (const row of inertLines(text.trimEnd()).split("\n")) line(`  ${paint("│", 36, colour())} ${row}`);
}

/** A service of the host that the agent must not reach. It is real: the demo counts who came. */
async function hostService(): Promise<{ readonly port: number; visitors: () => number } & AsyncDisposable> {
  let visitors = 0;
  const server: Server = createServer((socket) => {
    visitors += 1;
    socket.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { port, visitors: () => visitors, [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** Runs the project's tests in a sandbox that may change nothing. */
async function runTests(corral: Corral, dir: string): Promise<ExecResult> {
  const policy = await corral.policies.load("read-only");
  await using sandbox = await corral.create({ codebaseDir: dir, policy, delta: "ephemeral" });
  return await sandbox.exec({ command: ["node", "--test", "--test-reporter=tap"], timeoutMs: 30_000 });
}

function counts(result: ExecResult): string {
  const text = Buffer.from(result.stdout).toString("latin1");
  const count = (word: string): string => new RegExp(`^# ${word} (\\d+)$`, "m").exec(text)?.[1] ?? "?";
  return `${count("pass")} pass, ${count("fail")} fail`;
}

interface AgentRun {
  readonly id: string;
  readonly result: ExecResult;
  readonly output: string;
  readonly visitors: number;
}

async function runAgent(corral: Corral, dir: string): Promise<AgentRun> {
  await using service = await hostService();
  const policy = await corral.policies.load("agent-safe", { allowWrite: [RULE] });
  await using sandbox = await corral.create({ codebaseDir: dir, policy, delta: "keep" });
  const env = { HOST_SERVICE_PORT: String(service.port) };
  const result = await sandbox.exec({ command: ["node", "agent.js"], env, timeoutMs: BUDGET_MS });
  const output = Buffer.concat([result.stdout, result.stderr]).toString("utf8");
  quote(output);
  return { id: sandbox.id, result, output, visitors: service.visitors() };
}

/** What the agent says of its attempts, taken from its own lines. */
function attempts(output: string): { readonly blocked: number; readonly reached: readonly string[] } {
  const rows = [...output.matchAll(/^ {2}(.+?) \.+ (blocked|REACHED): /gm)];
  return {
    blocked: rows.filter((row) => row[2] === "blocked").length,
    reached: rows.filter((row) => row[2] === "REACHED").map((row) => row[1] ?? ""),
  };
}

function same(changes: readonly Change[], expected: readonly string[]): boolean {
  const found = changes.map(({ kind, path }) => `${kind} ${path}`).sort();
  return found.join("\n") === expected.join("\n");
}

async function showDiff(corral: Corral, id: string): Promise<void> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of corral.deltas.text(id)) chunks.push(chunk);
  for (const row of inertLines(Buffer.concat(chunks).toString("utf8").trimEnd()).split("\n")) {
    const shade = row.startsWith("+") ? 32 : row.startsWith("-") ? 31 : undefined;
    line(`  ${shade === undefined ? row : paint(row, shade, colour())}`);
  }
}

/** The story. Each part adds what it checked. */
async function story(corral: Corral, dir: string): Promise<Check[]> {
  title("1. A project with a bug, secrets and a history");
  const history = await makeHistory(corral, dir);
  const secrets = secretsOf(dir);
  const before = fingerprint(dir);
  const testsBefore = await runTests(corral, dir);
  line(`  a copy of examples/first-run${history ? ", two commits of git history" : " (git is not installed: no history)"}`);
  line("  .env, secrets/ and deploy.pem lie beside the code");
  line(`  its tests, run in a sandbox: ${counts(testsBefore)}`);

  title(`2. The agent runs: policy agent-safe, --allow-write '${RULE}'`);
  const agent = await runAgent(corral, dir);
  const { blocked, reached } = attempts(agent.output);
  const untouched = fingerprint(dir) === before;

  title("3. What it changed; nothing of it is in the project yet");
  const { changes, refused } = await corral.deltas.changes(agent.id);
  await showDiff(corral, agent.id);

  title("4. Accept");
  const { committed } = await corral.deltas.commit(agent.id);
  await corral.deltas.discard(agent.id).catch(() => undefined); // a commit may have taken the delta along
  for (const { kind, path } of committed) line(`  ${kind} ${path}`);
  const testsAfter = await runTests(corral, dir);
  const left = (await corral.census()).filter(({ sandboxId }) => sandboxId === agent.id);

  return [
    { claim: "the bug was real: tests failed before", held: testsBefore.exitCode !== 0, seen: counts(testsBefore) },
    { claim: "the agent did its job", held: agent.result.exitCode === 0, seen: `exit ${agent.result.exitCode}` },
    { claim: "every door it tried was shut", held: blocked > 0 && reached.length === 0, seen: doors(blocked, reached) },
    { claim: "no connection reached the host", held: agent.visitors === 0, seen: `${agent.visitors} connections` },
    { claim: "while it worked, the project did not change", held: untouched },
    { claim: "it left two changes, none of them refused", held: same(changes, EXPECTED) && refused.length === 0 },
    { claim: "accepting applied those two", held: same(committed, EXPECTED) },
    { claim: "tests pass now", held: testsAfter.exitCode === 0, seen: counts(testsAfter) },
    { claim: "the secrets are as they were", held: secretsOf(dir).join("\0") === secrets.join("\0") },
    { claim: "nothing of the sandbox is left on the machine", held: left.length === 0, seen: `${left.length} left` },
  ];
}

function doors(blocked: number, reached: readonly string[]): string {
  return reached.length === 0 ? `${blocked} of ${blocked}` : `REACHED: ${reached.join(", ")}`;
}

export async function demo(request: DemoRequest, host: Pick<CliHost, "open">): Promise<number> {
  const started = performance.now();
  line(paint("Corral demo: an agent works on a real project and cannot get out of it.", 1, colour()));
  let checks: Check[];
  try {
    await using corral = await host.open(request.dataDir === undefined ? {} : { dataDir: request.dataDir });
    using project = copyProject();
    checks = await story(corral, project.dir);
  } catch (error) {
    tellError(error);
    return EXIT_CORRAL;
  }
  const elapsedMs = performance.now() - started;
  checks.push({ claim: "all of this took less than a minute", held: elapsedMs < BUDGET_MS, seen: `${(elapsedMs / 1000).toFixed(1)} s` });
  title("What this showed, each line checked just now");
  for (const { claim, held, seen } of checks) {
    const mark = held ? paint("yes", 32, colour()) : paint("NO ", 31, colour());
    line(`  ${mark}  ${claim}${seen === undefined ? "" : ` (${seen})`}`);
  }
  const held = checks.every((check) => check.held);
  line(
    held
      ? "\nNow your own project:  ./corral run DIR -- npm test\nYou are shown what it changed, and nothing reaches DIR before you accept it."
      : "\nSomething did not hold. ./corral doctor says what this machine lacks.",
  );
  return held ? EXIT_OK : EXIT_FAILED;
}
