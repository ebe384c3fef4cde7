// The command line: words, options, help. It decides nothing that a command decides; each command's file is loaded when it runs.
// Invariant: a wrong command line ends with 2 before anything is made; every other error ends with one or two lines and a code.

import { type Argument, Command, CommanderError, Option } from "commander";
import type { Corral } from "../api/corral.ts";
import { errorCode } from "../api/errors.ts";
import { DEFAULT_PORT } from "../api/limits.ts";
import type { McpOptions } from "./commands/mcp.ts";
import type { ServeOptions } from "./commands/serve.ts";
import type { DeltaHolder } from "./delta-id.ts";
import { addContent } from "./content-commands.ts";
import { addLoom } from "./loom-commands.ts";
import { EXIT_CORRAL, EXIT_FAILED, EXIT_OK, EXIT_USAGE } from "./exit-codes.ts";
import type { BenchRequest, CliHost } from "./host.ts";
import { inert } from "../base/inert.ts";
import { addCode } from "./code-commands.ts";
import { addNouns } from "./noun-commands.ts";
import type { RawRunOptions } from "./run-options.ts";
import { repeatable } from "./repeatable.ts";
import { chooseServer, type ServerOptions } from "./server-choice.ts";
import type { Session } from "./session.ts";
import { errorObject, tellError } from "./tell.ts";

/** Runs one command line (without the program's name) and returns the exit code. */
export async function runCli(argv: readonly string[], host: CliHost): Promise<number> {
  const end = argv.indexOf("--");
  const session: Session = { host, rest: end === -1 ? undefined : argv.slice(end + 1), exitCode: EXIT_OK };
  const words = end === -1 ? argv : argv.slice(0, end);
  try {
    if (words.length === 0 && end === -1) {
      program(session).outputHelp();
      return EXIT_OK;
    }
    await program(session).parseAsync([...words], { from: "user" });
    return session.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    return failed(error, words);
  }
}

/** For what no command caught. */
export function reportDefect(error: unknown, argv: readonly string[]): number {
  tellError(error);
  return ownFailure(argv[0]);
}

function failed(error: unknown, words: readonly string[]): number {
  tellError(error);
  if (words.includes("--json")) process.stdout.write(`${JSON.stringify(errorObject(error))}\n`);
  const [word] = words;
  if (errorCode(error) === "request_invalid") return EXIT_USAGE;
  return ownFailure(word);
}

/** Told apart from the exit code of a program, where there is one. */
function ownFailure(word: string | undefined): number {
  return word === "run" || word === "exec" || word === "shell" ? EXIT_CORRAL : EXIT_FAILED;
}

function program(session: Session): Command {
  const corral = new Command("corral")
    .description("Run programs and AI agents over your code under a policy; see what they changed; accept it or not.")
    .version(session.host.version, "-V, --version", "print the version")
    .helpOption("-h, --help", "show help; `corral COMMAND --help` shows that of a command")
    .helpCommand(false)
    .exitOverride()
    .configureHelp({ subcommandTerm: (command) => [command.name(), ...command.registeredArguments.map(argumentTerm)].join(" ") })
    .configureOutput({ outputError: (text, write) => write(usageError(text)) })
    .addHelpText("after", EXAMPLES);
  addRun(corral, session);
  addDeltas(corral, session);
  addPolicy(corral, session);
  addCode(corral, session);
  addNouns(corral, session);
  addContent(corral, session);
  addMcp(corral, session);
  addLoom(corral, session);
  addDoctor(corral, session);
  addRest(corral, session);
  return corral;
}

function argumentTerm(argument: Argument): string {
  const name = argument.variadic ? `${argument.name()}…` : argument.name();
  return argument.required ? name : `[${name}]`;
}

/** What commander says about a wrong command line, in the form of all our errors. */
function usageError(text: string): string {
  const hint = text.includes("unknown option") ? "options of the command itself stand after --" : "corral --help shows what there is";
  return `corral: request_invalid: ${inert(text.replace(/^error: /, "").trim())} (${hint})\n`;
}

const EXAMPLES = `
Examples:
  corral run . -- npm test                                  secrets hidden, code readable, /output and /tmp writable
  corral run . --allow-write '/src/**' -- ./agent.sh        it may change src; you accept what it changed, or not
  corral run . --policy read-only --json -- make lint
  corral demo                                               the same as a story, in a minute
`;

const RUN_HELP = `
CMD runs at /workspace, which shows DIR under the policy. DIR itself never changes until you accept.
On a terminal you are asked afterwards; without one, changes are discarded unless --yes or --keep.

Policies: agent-safe (read all but secrets, write /output and /tmp), development (write all but secrets),
read-only, view-only, full-access, or the path of a policy file.

Exit code: that of CMD; 124 timed out, 126 not executable, 127 not found, 130 Ctrl-C, 125 Corral failed.

Examples:
  corral run . -- npm test
  corral run ./app --allow-write '/src/**' --hide '/customers/**' --timeout 10m -- ./agent.sh
`;

function addRun(corral: Command, session: Session): void {
  withPolicy(corral.command("run"))
    .summary("run a command over a directory under a policy")
    .description("Run a command in a sandbox over DIR (no copy), show what it changed, and ask what becomes of that.")
    .usage("DIR [options] -- CMD…")
    .argument("<DIR>", "directory that the command sees at /workspace")
    .argument("[CMD...]", "the command; put -- before it")
    .addOption(new Option("--engine <engine>", "what enforces the policy").choices(["auto", "kernel"]).default("auto"))
    .addOption(
      new Option("--runtime <runtime>", "what contains the processes (default: the best this machine has)").choices(["native", "bwrap"]),
    )
    .option("--timeout <time>", "end the command after this time: 90 (seconds), 90s, 5m, 2h")
    .option("--memory <size>", "memory limit: 512M, 2G (default: 4G)")
    .option("--net <presets>", "what it may reach outside, by preset: npm,pypi (default: nothing)")
    .option("--allow <host>", "HOST, HOST:PORT or RANGE:PORT that it may reach; repeat it for more", repeatable)
    .option("--json", "print one object about the run on the last line of stdout")
    .option("--yes", "accept the changes without asking")
    .option("--discard", "discard the changes without asking")
    .option("--keep", "keep the changes for `corral diff`, `commit` or `discard`")
    .addOption(dataOption())
    .addHelpText("after", RUN_HELP)
    .action(async (dir: string, words: string[], raw: RawRunOptions) => {
      const { readRunOptions } = await import("./run-options.ts");
      const options = readRunOptions(dir, [...words, ...(session.rest ?? [])], raw);
      const { run } = await import("./commands/run.ts");
      session.exitCode = await run(options, session.host);
    });
}

function addDeltas(corral: Command, session: Session): void {
  corral
    .command("diff")
    .summary("show what a kept run changed; without SB, list kept runs")
    .description("Show the changes of a kept run, or of one that was cut off, as a unified diff. Without SB, list them.")
    .argument("[SB]", "id of the run's sandbox, or its beginning")
    .argument("[PATH...]", "only these paths")
    .option("--stat", "names only")
    .option("--json", "print names as one object")
    .addOption(deltaServerOption())
    .addOption(dataOption())
    .action(
      async (id: string | undefined, paths: string[], options: { server?: string; data?: string; json?: boolean; stat?: boolean }) => {
        const { diff } = await import("./commands/diff.ts");
        session.exitCode = await withDeltas(session, options, (holder) => diff(holder, id, paths, options));
      },
    );
  corral
    .command("commit")
    .summary("accept what a kept run changed")
    .description("Write the changes of a kept run to its codebase: all of them or none.")
    .argument("<SB>", "id of the run's sandbox, or its beginning")
    .argument("[PATH...]", "only these paths")
    .option("--partial", "apply what can be applied, leave out what is refused or in conflict")
    .option("--accept-flagged", "also accept what runs on this machine later (hooks, scripts, CI files)")
    .option("--json", "print the result as one object")
    .addOption(deltaServerOption())
    .addOption(dataOption())
    .action(
      async (
        id: string,
        paths: string[],
        options: { server?: string; data?: string; json?: boolean; partial?: boolean; acceptFlagged?: boolean },
      ) => {
        const { commit } = await import("./commands/commit.ts");
        session.exitCode = await withDeltas(session, options, (holder) => commit(holder, id, paths, options));
      },
    );
  corral
    .command("discard")
    .summary("throw away what a kept run changed")
    .description("Throw the changes of kept runs away. The codebase stays as it is.")
    .argument("<SB...>", "ids of the runs' sandboxes, or their beginnings")
    .addOption(deltaServerOption())
    .addOption(dataOption())
    .action(async (ids: string[], options: { server?: string; data?: string }) => {
      const { discard } = await import("./commands/discard.ts");
      session.exitCode = await withDeltas(session, options, (holder) => discard(holder, ids));
    });
  addExport(corral, session);
}

function addExport(corral: Command, session: Session): void {
  corral
    .command("export")
    .summary("write the changed files of a kept run as a tar")
    .description("Write the entries that a kept run changed to stdout, as a tar.")
    .argument("<SB>", "id of the run's sandbox, or its beginning")
    .addOption(deltaServerOption())
    .addOption(dataOption())
    .action(async (id: string, options: { server?: string; data?: string }) => {
      const { exportDelta } = await import("./commands/export.ts");
      session.exitCode = await withDeltas(session, options, (holder) => exportDelta(holder, id));
    });
}

interface RawPolicyOptions {
  readonly policy: string;
  readonly allowWrite?: string[];
  readonly hide?: string[];
  readonly dir?: string;
  readonly json?: boolean;
  readonly data?: string;
}

function addPolicy(corral: Command, session: Session): void {
  const policy = corral
    .command("policy")
    .summary("explain, check or lint a policy")
    .description("Ask what a policy says, or what is wrong with a policy file.")
    .helpCommand(false);
  withPolicy(policy.command("explain"))
    .summary("say what a policy allows on a path, and which rule says so")
    .argument("<PATH>", "path in the codebase, as in /src/index.ts")
    .option("--dir <dir>", "the codebase, to know what stands at the path")
    .addOption(dataOption())
    .action(async (path: string, options: RawPolicyOptions) => {
      const { explain } = await import("./commands/policy.ts");
      session.exitCode = await withCorral(session, options, (client) => explain(client, path, options));
    });
  withPolicy(policy.command("check"))
    .summary("show a directory with the level of every path, and what is hidden")
    .argument("<DIR>", "the codebase")
    .addOption(dataOption())
    .action(async (dir: string, options: RawPolicyOptions) => {
      const { check } = await import("./commands/policy.ts");
      session.exitCode = await withCorral(session, options, (client) => check(client, dir, options));
    });
  policy
    .command("lint")
    .summary("list errors and warnings of a policy file")
    .argument("<FILE>", "the policy file")
    .option("--json", "print them as one array")
    .addOption(dataOption())
    .action(async (file: string, options: { data?: string; json?: boolean }) => {
      const { lint } = await import("./commands/policy.ts");
      session.exitCode = await withCorral(session, options, (client) => lint(client, file, options));
    });
}

interface DoctorWords {
  readonly data?: string;
  readonly json?: boolean;
  readonly census?: boolean;
  readonly attack?: boolean;
  readonly runtime?: string;
  readonly class?: string;
  readonly id?: string;
}

function addDoctor(corral: Command, session: Session): void {
  corral
    .command("doctor")
    .summary("tell what this machine can do, what is missing, what mends it")
    .description(
      "Tell which runtimes and engines work here, which walls are weaker, how many sandboxes fit, and what mends what is missing.",
    )
    .option("--json", "print the report as one object")
    .option("--census", "list what of Corral lives in the kernel and in the data directory")
    .option("--attack", "try to break out of sandboxes over a data directory of its own, and tell what held")
    .option("--runtime <name>", "with --attack: only on this runtime")
    .option("--class <name>", "with --attack: only attempts of this class")
    .option("--id <class/name>", "with --attack: only this attempt")
    .addOption(dataOption())
    .action(async (options: DoctorWords) => {
      if (options.attack === true) {
        const { attack } = await import("./commands/attack.ts");
        session.exitCode = await attack(options, session.host);
        return;
      }
      const { doctor } = await import("./commands/doctor.ts");
      session.exitCode = await withCorral(session, options, (client) => doctor(client, options));
    });
}

function addMcp(corral: Command, session: Session): void {
  corral
    .command("mcp")
    .summary("give an MCP client tools over a sandbox of its own")
    .description(
      "Speak the Model Context Protocol on stdin and stdout. The client gets one sandbox, made when it first needs it and gone when it leaves.",
    )
    .argument("[DIR]", "directory that the tools see at /workspace (default: an empty one)")
    .option("--codebase <id>", "a stored codebase of the server instead, ID or ID@VERSION")
    .option("--template <id>", "its root file system, as `template list` tells it (default: this machine's programs)")
    .option("--policy <policy>", "preset or policy file (default: agent-safe over a directory, else full-access)")
    .option("--allow-write <glob>", "also allow writing here; repeat it for more (hidden paths stay hidden)", repeatable)
    .option("--hide <glob>", "hide these paths; repeat it for more", repeatable)
    .addOption(new Option("--runtime <runtime>", "what contains the processes").choices(["native", "bwrap"]))
    .option("--memory <size>", "memory limit: 512M, 2G")
    .option("--env <pair>", "NAME=VALUE for every command in it; repeat it for more", repeatable)
    .option("--net <presets>", "what it may reach outside, by preset: npm,pypi (default: nothing)")
    .option("--allow <host>", "HOST, HOST:PORT or RANGE:PORT that it may reach; repeat it for more", repeatable)
    .option("--allow-commit", "let the client write its changes into the codebase (else they end with its sandbox)")
    .option("--server <url>", "the server (default: CORRAL_URL, else the one over the data directory, else none); its key is in CORRAL_KEY")
    .addOption(dataOption())
    .action(async (dir: string | undefined, options: McpOptions) => {
      const { mcp } = await import("./commands/mcp.ts");
      session.exitCode = await mcp(dir, options, session.host);
    });
}

function addRest(corral: Command, session: Session): void {
  corral
    .command("serve")
    .summary("serve sandboxes over HTTP")
    .description("Serve sandboxes over HTTP until SIGTERM or Ctrl-C. The first start of a data directory prints the admin key, once.")
    .option("--config <file>", "YAML or JSON; default: corral.yaml of the data directory, if it is there")
    .option("--host <address>", "address to listen on (default: 127.0.0.1)")
    .option("--port <n>", `port to listen on, 0 takes a free one (default: ${DEFAULT_PORT})`)
    .option("--store <url>", "keep the records in PostgreSQL (postgres://...) instead of the data directory")
    .option("--origin <origin>", "let web pages of this origin call; may be repeated", repeatable, [])
    .option("--set <key=value>", "any key of the configuration; may be repeated", repeatable, [])
    .option("--print-config", "print what is in force and who said so, and end")
    .option("--json", "print one line {url, key, pid} when ready; with --print-config one object")
    .addOption(dataOption())
    .action(async (options: ServeOptions) => {
      const { serve } = await import("./commands/serve.ts");
      session.exitCode = await serve(options, session.host);
    });
  corral
    .command("demo")
    .summary("see it work on a small project, in a minute")
    .addOption(dataOption())
    .action(async ({ data }: { data?: string }) => {
      const { demo } = await import("./commands/demo.ts");
      session.exitCode = await demo(data === undefined ? {} : { dataDir: data }, session.host);
    });
  corral
    .command("bench")
    .summary("measure this machine")
    .description("Measure Corral on this machine beside a floor or a peer in the same run. Without ID, all benches.")
    .argument("[ID...]", "benches to run")
    .option("--json", "one object a line")
    .option("--quick", "fewer samples")
    .option("--profile", "write a CPU profile and heap figures for each bench")
    .option("--report", "draw charts from saved results")
    .action(async (ids: string[], options: Partial<Omit<BenchRequest, "ids">>) => {
      session.exitCode = await session.host.bench({ ids, json: false, quick: false, profile: false, report: false, ...options });
    });
}

function withPolicy(command: Command): Command {
  return command
    .option("--policy <policy>", "preset or policy file", "agent-safe")
    .option("--allow-write <glob>", "also allow writing here; repeat it for more (hidden paths stay hidden)", repeatable)
    .option("--hide <glob>", "hide these paths; repeat it for more", repeatable);
}

function deltaServerOption(): Option {
  return new Option("--server <url>", "a delta of this server (or CORRAL_URL); its key is in CORRAL_KEY");
}

function dataOption(): Option {
  return new Option("--data <dir>", "data directory (default: /var/lib/corral as root, else ~/.local/share/corral)");
}

async function withCorral(
  session: Session,
  options: { readonly data?: string },
  act: (client: Corral) => Promise<number>,
): Promise<number> {
  await using client = await session.host.open(options.data === undefined ? {} : { dataDir: options.data });
  const { tellReaped } = await import("./reaped.ts");
  tellReaped(client);
  return await act(client);
}

async function withDeltas(session: Session, options: ServerOptions, run: (holder: DeltaHolder) => Promise<number>): Promise<number> {
  if (options.server === undefined && (process.env["CORRAL_URL"] ?? "") === "") return await withCorral(session, options, run);
  const { deltasOf } = await import("./server-deltas.ts");
  return await run({ deltas: deltasOf(await chooseServer(options, session.host)) });
}
