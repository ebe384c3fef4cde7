// `corral play` and `corral world`: words to calls. Invariant: a command whose help is asked for loads nothing of Loom.

import { type Command, Option } from "commander";
import type { PlayOptions } from "./commands/play.ts";
import type { Session } from "./session.ts";

const PLAY_HELP = `
WORLD is a folder with a main.md. What you type is said; lines that begin with / are commands: /help lists them.

Models: scripted (asks none, and says so), openai/NAME, openai-chat/NAME, anthropic/NAME, ollama/NAME, compatible/NAME.
Keys and addresses: OPENAI_API_KEY, ANTHROPIC_API_KEY, COMPATIBLE_API_KEY; OPENAI_BASE_URL, OLLAMA_BASE_URL and so on.

Examples:
  corral play examples/worlds/lighthouse
  corral play examples/worlds/ferry --model ollama/qwen3 --once "我推开门"
  corral play examples/worlds/lighthouse --once "I light the lamp" --json
`;

const LINT_HELP = `
Ends with 1 when there is an error. Each line is FILE:LINE:COLUMN SEVERITY CODE: what is wrong.

Example:
  corral world lint examples/worlds/lighthouse
`;

export function addLoom(corral: Command, session: Session): void {
  const data = (): Option => new Option("--data <dir>", "data directory");
  corral
    .command("play")
    .summary("play a world that is written in Markdown")
    .description("Play WORLD on this terminal: each turn is kept, and a session goes on wherever it was left.")
    .argument("<WORLD>", "folder of the world")
    .option("--model <model>", "who answers (default: scripted)")
    .option("--session <id>", "go on with this session")
    .option("--once <text>", "play one turn and end")
    .option("--json", "with --once: print one object {session, turn, text, stopReason, timings}")
    .addOption(data())
    .addHelpText("after", PLAY_HELP)
    .action(async (world: string, options: PlayOptions) => {
      const { play } = await import("./commands/play.ts");
      session.exitCode = await play(world, options, session.host);
    });
  const world = corral.command("world").summary("worlds that are written in Markdown");
  world
    .command("lint")
    .summary("tell what is wrong in a world's canon")
    .argument("<WORLD>", "folder of the world")
    .option("--json", "print a list of problems")
    .addHelpText("after", LINT_HELP)
    .action(async (dir: string, options: { readonly json?: boolean }) => {
      const { lint } = await import("./commands/play.ts");
      session.exitCode = await lint(dir, options, session.host);
    });
}
