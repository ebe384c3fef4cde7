// Words and options of the commands that speak to a server. Each command's file is loaded when it runs.
// Invariant: these commands need nothing of the machine they run on but Node.js and a way to the server.

import { type Command, Option } from "commander";
import type { Client } from "../api/client.ts";
import type { CreateOptions, ExecOptions, PsOptions } from "./nouns/sandboxes.ts";
import type { CreateTemplateOptions } from "./nouns/templates.ts";
import type { NetworkOptions } from "./nouns/networks.ts";
import type { LogsOptions } from "./nouns/logs.ts";
import type { ShellOptions } from "./nouns/shell.ts";
import type { ForkOptions, ListOptions, TakeOptions } from "./nouns/snapshots.ts";
import type { IssueOptions } from "./nouns/tokens.ts";
import { repeatable } from "./repeatable.ts";
import { chooseServer, type ServerOptions } from "./server-choice.ts";
import type { Session } from "./session.ts";

export function addNouns(corral: Command, session: Session): void {
  addSandboxes(corral, session);
  addTerminals(corral, session);
  addLife(corral, session);
  addTemplates(corral, session);
  addSnapshots(corral, session);
  addNetworks(corral, session);
  addSecrets(corral, session);
  addTokens(corral, session);
}

/** What every command of this kind takes. */
export function onServer(command: Command): Command {
  return command
    .option("--server <url>", "the server (default: CORRAL_URL, else the one over the data directory); its key is in CORRAL_KEY")
    .addOption(new Option("--data <dir>", "data directory of the local server"));
}

type Act<T extends unknown[]> = (client: Client, ...rest: T) => Promise<number>;

export async function act<T extends unknown[]>(session: Session, options: ServerOptions, run: Act<T>, ...rest: T): Promise<void> {
  session.exitCode = await run(await chooseServer(options, session.host), ...rest);
}

function addSandboxes(corral: Command, session: Session): void {
  onServer(corral.command("create"))
    .summary("make a sandbox on a server and print its id")
    .option("--dir <dir>", "directory of the server's machine to work over (asks for an admin key)")
    .option("--template <id>", "its root file system, as `template list` tells it (default: this machine's programs)")
    .option("--snapshot <snap>", "begin with the files, policy, limits and environment of this snapshot")
    .option("--policy <policy>", "preset (default: agent-safe over a directory, else full-access)")
    .addOption(new Option("--runtime <runtime>", "what contains the processes").choices(["native", "bwrap"]))
    .option("--timeout <time>", "its life: 90s, 5m, 2h, never (default: 1h)")
    .addOption(new Option("--on-timeout <act>", "what the end of its life does").choices(["kill", "pause"]))
    .option("--memory <size>", "memory limit: 512M, 2G")
    .option("--env <pair>", "NAME=VALUE for every command in it; repeat it for more", repeatable)
    .option("--label <pair>", "NAME=VALUE to find it by; repeat it for more", repeatable)
    .option("--net <presets>", "what it may reach outside, by preset: npm,pypi (default: nothing)")
    .option("--allow <host>", "HOST, HOST:PORT or RANGE:PORT that it may reach; repeat it for more", repeatable)
    .option("--keep", "keep what it changed when it ends, for `corral diff`, `commit` or `discard`")
    .option("--json", "print what the server tells of it")
    .action(async (options: CreateOptions & ServerOptions) => {
      const { create } = await import("./nouns/sandboxes.ts");
      await act(session, options, create, options);
    });
  onServer(corral.command("ps"))
    .summary("list the sandboxes of a server")
    .option("-a, --all", "also those that failed")
    .option("--label <pair>", "only those with this NAME=VALUE; repeat it for more", repeatable)
    .option("--json", "print one array")
    .action(async (options: PsOptions & ServerOptions) => {
      const { ps } = await import("./nouns/sandboxes.ts");
      await act(session, options, ps, options);
    });
  onServer(corral.command("exec"))
    .summary("run a command in a sandbox of a server")
    .usage("SB [options] -- CMD…")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .argument("[CMD...]", "the command; put -- before it")
    .option("--cwd <dir>", "directory inside (default: /workspace)")
    .option("--timeout <time>", "end the command after this time")
    .option("--env <pair>", "NAME=VALUE for the command; repeat it for more", repeatable)
    .option("-i, --stdin", "pass our stdin, all of it, to the command")
    .action(async (id: string, words: string[], options: ExecOptions & ServerOptions) => {
      const { exec } = await import("./nouns/sandboxes.ts");
      await act(session, options, exec, id, [...words, ...(session.rest ?? [])], options);
    });
}

function addTerminals(corral: Command, session: Session): void {
  onServer(corral.command("shell"))
    .summary("open a terminal in a sandbox of a server; Ctrl-] twice leaves it running")
    .usage("SB [options] [-- CMD…]")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .argument("[CMD...]", "what runs in it; put -- before it (default: a shell)")
    .option("--cwd <dir>", "directory inside (default: /workspace)")
    .option("--env <pair>", "NAME=VALUE for the command; repeat it for more", repeatable)
    .option("--process <process>", "go back to one that was left running, instead of a new one")
    .action(async (id: string, words: string[], options: ShellOptions & ServerOptions) => {
      const { shell } = await import("./nouns/shell.ts");
      await act(session, options, shell, id, [...words, ...(session.rest ?? [])], options);
    });
  onServer(corral.command("logs"))
    .summary("print what a process in a sandbox of a server has written")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .argument("[PROCESS]", "id of the process, or its beginning (default: the only one)")
    .option("-f, --follow", "go on until it ends")
    .action(async (id: string, process: string | undefined, options: LogsOptions & ServerOptions) => {
      const { logs } = await import("./nouns/logs.ts");
      await act(session, options, logs, id, process, options);
    });
}

function addLife(corral: Command, session: Session): void {
  onServer(corral.command("renew"))
    .summary("move the end of a sandbox")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .argument("<TIME>", "life from now: 90s, 5m, 2h, never")
    .action(async (id: string, time: string, options: ServerOptions) => {
      const { renew } = await import("./nouns/sandboxes.ts");
      await act(session, options, renew, id, time);
    });
  onServer(corral.command("pause"))
    .summary("pause a sandbox; whatever asks for it next resumes it")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .option("--no-memory", "end its processes and keep its files alone")
    .action(async (id: string, options: { memory: boolean } & ServerOptions) => {
      const { pause } = await import("./nouns/sandboxes.ts");
      await act(session, options, pause, id, options);
    });
  onServer(corral.command("resume"))
    .summary("let a paused sandbox go on")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .action(async (id: string, options: ServerOptions) => {
      const { resume } = await import("./nouns/sandboxes.ts");
      await act(session, options, resume, id);
    });
  onServer(corral.command("rm"))
    .summary("destroy sandboxes of a server")
    .argument("<SB...>", "ids of the sandboxes, or their beginnings")
    .action(async (ids: string[], options: ServerOptions) => {
      const { remove } = await import("./nouns/sandboxes.ts");
      await act(session, options, remove, ids);
    });
}

function addTemplates(corral: Command, session: Session): void {
  const template = corral.command("template").summary("make, list and delete root file systems of a server").helpCommand(false);
  onServer(template.command("create"))
    .summary("make a template and print its id")
    .argument("<NAME>", "what it is called in lists")
    .option("--tar <file>", "its root as an archive of this machine: plain, gzip or zstd")
    .option("--codebase <id>", "the current version of a codebase as its root")
    .option("--dir <dir>", "a directory of the server's machine as its root (asks for an admin key)")
    .option("--debootstrap <suite>", "Debian packages as its root, installed while the id is there already (asks for an admin key)")
    .option("--include <package>", "a package beside those of the suite; repeat it for more", repeatable)
    .option("--policy <policy>", "preset of its sandboxes, unless they ask otherwise")
    .option("--memory <size>", "memory limit of its sandboxes, unless they ask otherwise: 512M, 2G")
    .option("--env <pair>", "NAME=VALUE for its sandboxes; repeat it for more", repeatable)
    .option("--shared", "for every owner (asks for an admin key)")
    .option("--json", "print what the server tells of it")
    .action(async (name: string, options: CreateTemplateOptions & ServerOptions) => {
      const { createTemplate } = await import("./nouns/templates.ts");
      await act(session, options, createTemplate, name, options);
    });
  onServer(template.command("list"))
    .summary("list your templates and shared ones")
    .option("--json", "print one array")
    .action(async (options: { json?: boolean } & ServerOptions) => {
      const { listTemplates } = await import("./nouns/templates.ts");
      await act(session, options, listTemplates, options);
    });
  onServer(template.command("rm"))
    .summary("delete templates that no sandbox stands on")
    .argument("<ID...>", "their ids, as `template list` tells them")
    .action(async (ids: string[], options: ServerOptions) => {
      const { removeTemplates } = await import("./nouns/templates.ts");
      await act(session, options, removeTemplates, ids);
    });
}

function addSnapshots(corral: Command, session: Session): void {
  const snapshot = corral.command("snapshot").summary("take, list and delete snapshots of sandboxes").helpCommand(false);
  onServer(snapshot.command("take"))
    .summary("take a snapshot of a sandbox's files and print its id")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .option("--name <name>", "what it is called in lists")
    .option("--label <pair>", "NAME=VALUE to keep with it; repeat it for more", repeatable)
    .option("--json", "print what the server tells of it")
    .action(async (id: string, options: TakeOptions & ServerOptions) => {
      const { take } = await import("./nouns/snapshots.ts");
      await act(session, options, take, id, options);
    });
  onServer(snapshot.command("list"))
    .summary("list snapshots, newest first")
    .option("--sandbox <sb>", "only of this sandbox")
    .option("--name <name>", "only with this name")
    .option("--json", "print one array")
    .action(async (options: ListOptions & ServerOptions) => {
      const { list } = await import("./nouns/snapshots.ts");
      await act(session, options, list, options);
    });
  onServer(snapshot.command("rm"))
    .summary("delete snapshots that no sandbox stands on")
    .argument("<SNAP...>", "ids of the snapshots, or their beginnings")
    .action(async (ids: string[], options: ServerOptions) => {
      const { remove } = await import("./nouns/snapshots.ts");
      await act(session, options, remove, ids);
    });
  addFilesAgain(corral, session);
}

function addFilesAgain(corral: Command, session: Session): void {
  onServer(corral.command("restore"))
    .summary("give a sandbox back the files of one of its snapshots; its processes end")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .argument("<SNAP>", "id of the snapshot, or its beginning")
    .action(async (id: string, snapshot: string, options: ServerOptions) => {
      const { restore } = await import("./nouns/snapshots.ts");
      await act(session, options, restore, id, snapshot);
    });
  onServer(corral.command("fork"))
    .summary("make sandboxes that begin with the files of another one, and print their ids")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .option("--count <n>", "how many (default: 1)")
    .option("--timeout <time>", "their life: 90s, 5m, 2h, never (default: 1h)")
    .action(async (id: string, options: ForkOptions & ServerOptions) => {
      const { fork } = await import("./nouns/snapshots.ts");
      await act(session, options, fork, id, options);
    });
}

function addNetworks(corral: Command, session: Session): void {
  onServer(corral.command("network"))
    .summary("print or change what a sandbox may reach outside")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .option("--set <file>", "replace all rules by those of this file, in JSON")
    .option("--net <presets>", "add presets: npm,pypi")
    .option("--allow <host>", "add HOST, HOST:PORT or RANGE:PORT; repeat it for more", repeatable)
    .option("--json", "print what the server tells of it")
    .action(async (id: string, options: NetworkOptions & ServerOptions) => {
      const { network } = await import("./nouns/networks.ts");
      await act(session, options, network, id, options);
    });
  onServer(corral.command("egress"))
    .summary("list what a sandbox tried to reach and was refused, and what would allow it")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .option("--json", "print one array")
    .action(async (id: string, options: { json?: boolean } & ServerOptions) => {
      const { egress } = await import("./nouns/networks.ts");
      await act(session, options, egress, id, options);
    });
}

function addSecrets(corral: Command, session: Session): void {
  const secret = corral.command("secret").summary("set, list and delete secrets that the network of sandboxes uses").helpCommand(false);
  onServer(secret.command("set"))
    .summary("give a secret its value, which is read from stdin")
    .argument("<NAME>", "what a rule of a network calls it, and the variable in the sandbox")
    .action(async (name: string, options: ServerOptions) => {
      const { set } = await import("./nouns/secrets.ts");
      await act(session, options, set, name);
    });
  onServer(secret.command("ls"))
    .summary("list secrets, without their values")
    .option("--json", "print one array")
    .action(async (options: { json?: boolean } & ServerOptions) => {
      const { list } = await import("./nouns/secrets.ts");
      await act(session, options, list, options);
    });
  onServer(secret.command("rm"))
    .summary("delete secrets")
    .argument("<NAME...>", "their names")
    .action(async (names: string[], options: ServerOptions) => {
      const { remove } = await import("./nouns/secrets.ts");
      await act(session, options, remove, names);
    });
}

function addTokens(corral: Command, session: Session): void {
  const token = corral.command("token").summary("issue, list and revoke keys of a server").helpCommand(false);
  onServer(token.command("issue"))
    .summary("make a key and print it, once")
    .argument("<OWNER>", "whom the key is for")
    .addOption(new Option("--scope <scope>", "what it may do").choices(["admin", "user", "sandbox"]).default("user"))
    .option("--sandbox <sb>", "the sandbox of a key of scope sandbox")
    .option("--name <name>", "what it is called in lists", "command line")
    .option("--expires <time>", "its life: 12h (default: until it is revoked)")
    .option("--json", "print what the server tells of it")
    .action(async (ownerId: string, options: IssueOptions & ServerOptions) => {
      const { issue } = await import("./nouns/tokens.ts");
      await act(session, options, issue, ownerId, options);
    });
  onServer(token.command("list"))
    .summary("list an owner's keys")
    .option("--owner <owner>", "another owner (asks for an admin key)")
    .option("--json", "print one array")
    .action(async (options: { owner?: string; json?: boolean } & ServerOptions) => {
      const { list } = await import("./nouns/tokens.ts");
      await act(session, options, list, options);
    });
  onServer(token.command("revoke"))
    .summary("end a key")
    .argument("<ID>", "the key's id, as `token list` tells it")
    .option("--owner <owner>", "another owner (asks for an admin key)")
    .action(async (id: string, options: { owner?: string } & ServerOptions) => {
      const { revoke } = await import("./nouns/tokens.ts");
      await act(session, options, revoke, id, options);
    });
}
