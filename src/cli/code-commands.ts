// Words and options of `corral py` and `corral repl`. Each command's file is loaded when it runs.

import { type Command, Option } from "commander";
import { CONTEXT_LANGUAGES } from "../api/contexts.ts";
import type { PyOptions } from "./commands/py.ts";
import type { ReplOptions } from "./commands/repl.ts";
import type { Session } from "./session.ts";

export function addCode(corral: Command, session: Session): void {
  placed(corral.command("py"))
    .summary("run Python in a sandbox of its own")
    .usage("[options] [FILE]")
    .argument("[FILE]", "a file of this machine; - is stdin, which else is the code's input")
    .option("-c, --code <code>", "this code instead of a file")
    .option("--timeout <time>", "end the code after this time: 90 (seconds), 90s, 5m, 2h")
    .action(async (file: string | undefined, options: PyOptions) => {
      const { py } = await import("./commands/py.ts");
      session.exitCode = await py(file, options, session.host);
    });
  placed(corral.command("repl"))
    .summary("type into an interpreter in a sandbox of its own")
    .addOption(new Option("--language <language>", "what is typed").choices([...CONTEXT_LANGUAGES]).default("python"))
    .action(async (options: ReplOptions) => {
      const { repl } = await import("./commands/repl.ts");
      session.exitCode = await repl(options, session.host);
    });
}

function placed(command: Command): Command {
  return command
    .option("--dir <dir>", "directory that the code sees at /workspace; it is not changed")
    .option("--policy <policy>", "preset or file (default: agent-safe over a directory, else full-access)")
    .option("--memory <size>", "memory limit: 512M, 2G (default: 4G)")
    .addOption(new Option("--data <dir>", "data directory"));
}
