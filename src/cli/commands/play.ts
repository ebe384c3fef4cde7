// `corral play`: a world on a terminal. What the model says is printed as it comes, made inert; commands begin with `/`.
// Not a client of a server: the world is played in this process. Invariant: a turn that was cut off here is in the store, and goes on or is
// told there.

import { createInterface } from "node:readline/promises";
import { CorralError } from "../../api/errors.ts";
import type { LoomHere, PlayTurn } from "../../api/loom.ts";
import { inert, inertLines } from "../../base/inert.ts";
import { EXIT_FAILED, EXIT_OK } from "../exit-codes.ts";
import type { CliHost } from "../host.ts";
import { print } from "../streams.ts";
import { tell, tellError } from "../tell.ts";

export interface PlayOptions {
  readonly model?: string;
  readonly session?: string;
  readonly once?: string;
  readonly json?: boolean;
  readonly data?: string;
}

const HELP = `/undo  take the last turn back        /redo  bring it back
/retry  have the last turn answered anew   /branch NAME  play on in a branch of its own
/goto TURN  go on behind that turn     /cost  what the session cost
/verify  look whether all agrees         /help  this
/quit  end; go on later with --session`;

export async function play(world: string, options: PlayOptions, host: CliHost): Promise<number> {
  const { model = "scripted", once, json = false, data } = options;
  if (json && once === undefined)
    throw new CorralError("request_invalid", "--json: takes --once TEXT; a play on a terminal is for a person");
  await using loom = await host.loom({ model, ...(data === undefined ? {} : { dataDir: data }) });
  const sessionId = options.session ?? (await loom.begin(world)).sessionId;
  if (once !== undefined) return await playOnce(loom, { sessionId, input: once, json });
  if (model === "scripted") tell("the model is scripted: no model is asked, and every reply says so; --model names a real one");
  tell(`session ${sessionId}; /help lists the commands`);
  await dialogue(loom, sessionId);
  return EXIT_OK;
}

interface Once {
  readonly sessionId: string;
  readonly input: string;
  readonly json: boolean;
}

async function playOnce(loom: LoomHere, { sessionId, input, json }: Once): Promise<number> {
  const turnId = await loom.send(sessionId, input);
  const turn = json ? await loom.ended(turnId) : await shown(loom, turnId);
  if (json) await print(`${JSON.stringify(turn)}\n`);
  else tell(`session ${sessionId}, turn ${turnId}`);
  return turn.state === "done" ? EXIT_OK : EXIT_FAILED;
}

/** Prints a turn as it comes. */
async function shown(loom: LoomHere, turnId: string): Promise<PlayTurn> {
  let ended = false;
  for await (const frame of loom.follow(turnId)) {
    if (frame.kind === "text-chunk") await print(inertLines(frame.text));
    else if (frame.kind === "attempt-drop")
      await print("\n[the reply broke off; what stands above does not hold, it is asked for again]\n");
    ended = frame.kind === "turn-end";
  }
  if (ended) await print("\n");
  const turn = await loom.ended(turnId);
  if (turn.error !== undefined) tell(`${turn.error.code}: ${turn.error.message}`);
  else if (turn.stopReason !== "end") tell(`the turn ended: ${turn.stopReason}`);
  return turn;
}

async function dialogue(loom: LoomHere, sessionId: string): Promise<void> {
  const { isTTY } = process.stdin;
  const lines = createInterface({ input: process.stdin, ...(isTTY ? { output: process.stdout } : {}), prompt: "> " });
  const prompt = (): void => {
    if (isTTY) lines.prompt(); // a pipe may have ended long ago
  };
  prompt();
  for await (const line of lines) {
    const said = line.trim();
    if (said === "/quit") break;
    try {
      if (said.startsWith("/")) await command(loom, sessionId, said);
      else if (said !== "") await shown(loom, await loom.send(sessionId, said));
    } catch (error) {
      tellError(error);
    }
    prompt();
  }
  lines.close();
}

async function command(loom: LoomHere, sessionId: string, said: string): Promise<void> {
  const [word = "", ...rest] = said.split(/\s+/);
  const name = rest.join(" ");
  switch (word) {
    case "/undo":
      return await print(`at ${(await loom.undo(sessionId)).head ?? "the beginning"}\n`);
    case "/redo":
      return await print(`at ${(await loom.redo(sessionId)).head ?? "the beginning"}\n`);
    case "/goto":
      return await print(`at ${(await loom.goTo(sessionId, name)).head ?? "the beginning"}\n`);
    case "/branch":
      return await print(`on ${inert((await loom.fork(sessionId, name)).name)}\n`);
    case "/retry":
      return void (await shown(loom, await loom.retry(sessionId)));
    case "/verify":
      return await print(`${(await loom.verify(sessionId)).map(inert).join("\n") || "all agrees with what was said"}\n`);
    case "/cost":
      return await print(`$${((await loom.costNano(sessionId)) / 1e9).toFixed(6)}\n`);
    default:
      return await print(`${HELP}\n`);
  }
}

export async function lint(dir: string, { json = false }: { readonly json?: boolean }, host: CliHost): Promise<number> {
  const problems = await host.lintWorld(dir);
  if (json) await print(`${JSON.stringify(problems)}\n`);
  else
    for (const { file, line, column, severity, code, message } of problems)
      await print(`${inert(`${file}:${line}:${column} ${severity} ${code}: ${message}`)}\n`);
  if (!json && problems.length === 0) tell("nothing is wrong");
  return problems.some(({ severity }) => severity === "error") ? EXIT_FAILED : EXIT_OK;
}
