// Words and options of the commands over what a server holds and does: files, codebases, processes, policies, records, load.
// Invariant: as of noun-commands.ts.

import type { Command } from "commander";
import { act, onServer } from "./noun-commands.ts";
import type { EventsOptions } from "./nouns/records.ts";
import type { ImportOptions } from "./nouns/codebases.ts";
import type { KillOptions } from "./nouns/processes.ts";
import type { TopOptions } from "./nouns/top.ts";
import { repeatable } from "./repeatable.ts";
import type { ServerOptions } from "./server-choice.ts";
import type { Session } from "./session.ts";

interface Json {
  readonly json?: boolean;
}

export function addContent(corral: Command, session: Session): void {
  addFiles(corral, session);
  addProcesses(corral, session);
  addCodebases(corral, session);
  addRecords(corral, session);
}

function addFiles(corral: Command, session: Session): void {
  onServer(corral.command("cp"))
    .summary("copy files and directories between this machine and a sandbox")
    .description(
      "Copy a file, or a directory with all in it, into a sandbox or out of it. Into a directory that is there it goes by its name.",
    )
    .argument("<FROM>", "a path of this machine, or SB:path (relative: below /workspace)")
    .argument("<TO>", "the same, on the other side")
    .action(async (from: string, to: string, options: ServerOptions) => {
      const { cp } = await import("./nouns/files.ts");
      await act(session, options, cp, from, to);
    });
  onServer(corral.command("ls"))
    .summary("list a directory of a sandbox")
    .argument("<SB:PATH>", "relative: below /workspace")
    .option("-l, --long", "also mode, owner, size and time")
    .option("--json", "print one array")
    .action(async (place: string, options: { readonly long?: boolean } & Json & ServerOptions) => {
      const { ls } = await import("./nouns/files.ts");
      await act(session, options, ls, place, options);
    });
  onServer(corral.command("cat"))
    .summary("print files of sandboxes")
    .argument("<SB:PATH...>", "relative: below /workspace")
    .action(async (places: string[], options: ServerOptions) => {
      const { cat } = await import("./nouns/files.ts");
      await act(session, options, cat, places);
    });
  onServer(corral.command("explain"))
    .summary("say what the policy of a sandbox allows on a path, and which rule says so")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .argument("<PATH>", "path in the codebase, as in /src/index.ts; a directory ends in /")
    .option("--json", "print what the server tells of it")
    .action(async (id: string, path: string, options: Json & ServerOptions) => {
      const { explainPath } = await import("./nouns/explain.ts");
      await act(session, options, explainPath, id, path, options);
    });
}

function addProcesses(corral: Command, session: Session): void {
  onServer(corral.command("processes"))
    .summary("list what runs in a sandbox beside its callers")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .option("--json", "print one array")
    .action(async (id: string, options: Json & ServerOptions) => {
      const { processes } = await import("./nouns/processes.ts");
      await act(session, options, processes, id, options);
    });
  onServer(corral.command("kill"))
    .summary("end a process of a sandbox, or send it a signal")
    .argument("<SB>", "id of the sandbox, or its beginning")
    .argument("<PROCESS>", "its id, as `processes` tells it")
    .option("--signal <name>", "send this, as in HUP, and do not wait (default: SIGINT, SIGTERM, SIGKILL until it has ended)")
    .option("--tree", "with --signal: to all that it started")
    .action(async (id: string, process: string, options: KillOptions & ServerOptions) => {
      const { kill } = await import("./nouns/processes.ts");
      await act(session, options, kill, id, process, options);
    });
  onServer(corral.command("top"))
    .summary("show what the sandboxes of a server take")
    .description("Show CPU time, memory, processes, traffic and delta of the sandboxes of a server, again and again on a terminal.")
    .option("--once", "show it once (default where stdout is no terminal)")
    .option("--json", "print one array a line")
    .option("--every <time>", "time between two looks", "2s")
    .action(async (options: TopOptions & ServerOptions) => {
      const { top } = await import("./nouns/top.ts");
      await act(session, options, top, options);
    });
}

function addCodebases(corral: Command, session: Session): void {
  const codebase = corral.command("codebase").summary("import, list, export and delete codebases of a server").helpCommand(false);
  onServer(codebase.command("import"))
    .summary("store a directory, a tar or a commit of a git repository as a codebase and print its id")
    .argument(
      "<PATH|URL>",
      "a directory or a tar (plain, gzip, zstd) of this machine, or https://… of a repository, which the server fetches",
    )
    .option("--name <name>", "what it is called (default: the last name of PATH)")
    .option("--to <id>", "the next version of this codebase instead of a new one")
    .option("--ref <ref>", "of a repository: a branch, a tag or the whole hash of a commit")
    .option("--depth <n>", "of a repository: how many commits are fetched on the way to it (default: 1)")
    .option("--json", "print what the server tells of it")
    .action(async (path: string, options: ImportOptions & ServerOptions) => {
      const { importCodebase } = await import("./nouns/codebases.ts");
      await act(session, options, importCodebase, path, options);
    });
  onServer(codebase.command("ls"))
    .summary("list codebases, or what is in one")
    .argument("[ID]", "the codebase")
    .argument("[PATH]", "a directory in it")
    .option("--at <n>", "number of a version (default: the current one)")
    .option("-r, --recursive", "all below it")
    .option("--json", "print one array")
    .action(
      async (
        id: string | undefined,
        path: string | undefined,
        options: { readonly at?: string; readonly recursive?: boolean } & Json & ServerOptions,
      ) => {
        const { listCodebases } = await import("./nouns/codebases.ts");
        await act(session, options, listCodebases, id, path, options);
      },
    );
  onServer(codebase.command("versions"))
    .summary("list the versions of a codebase")
    .argument("<ID>", "the codebase")
    .option("--json", "print one array")
    .action(async (id: string, options: Json & ServerOptions) => {
      const { versions } = await import("./nouns/codebases.ts");
      await act(session, options, versions, id, options);
    });
  addCodebaseContent(codebase, session);
}

function addCodebaseContent(codebase: Command, session: Session): void {
  onServer(codebase.command("cat"))
    .summary("print a file of a codebase")
    .argument("<ID>", "the codebase")
    .argument("<PATH>", "the file")
    .option("--at <n>", "number of a version (default: the current one)")
    .action(async (id: string, path: string, options: { readonly at?: string } & ServerOptions) => {
      const { catCodebase } = await import("./nouns/codebases.ts");
      await act(session, options, catCodebase, id, path, options);
    });
  onServer(codebase.command("export"))
    .summary("write a version of a codebase as a tar")
    .argument("<ID>", "the codebase")
    .option("--at <n>", "number of a version (default: the current one)")
    .action(async (id: string, options: { readonly at?: string } & ServerOptions) => {
      const { exportCodebase } = await import("./nouns/codebases.ts");
      await act(session, options, exportCodebase, id, options);
    });
  onServer(codebase.command("rm"))
    .summary("delete codebases")
    .argument("<ID...>", "the codebases")
    .action(async (ids: string[], options: ServerOptions) => {
      const { removeCodebases } = await import("./nouns/codebases.ts");
      await act(session, options, removeCodebases, ids);
    });
}

function addRecords(corral: Command, session: Session): void {
  onServer(corral.command("events"))
    .summary("tell what happened on a server")
    .option("-f, --follow", "go on with what comes")
    .option("--kind <kind>", "only these, as in sandbox-create; repeat it for more", repeatable)
    .option("--sandbox <sb>", "only of this sandbox")
    .option("--json", "one object a line")
    .action(async (options: EventsOptions & ServerOptions) => {
      const { events } = await import("./nouns/records.ts");
      await act(session, options, events, options);
    });
  onServer(corral.command("audit"))
    .summary("tell who asked for what, and what came of it")
    .option("--subject <id>", "only what was asked for this")
    .option("--json", "one object a line")
    .action(async (options: { readonly subject?: string } & Json & ServerOptions) => {
      const { audit } = await import("./nouns/records.ts");
      await act(session, options, audit, options);
    });
}
