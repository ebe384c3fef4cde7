// An agent loop on the SDK: a model asks for commands, a sandbox runs them, the model reads what they said, until it has an answer.
// The model never touches this machine: its commands run in a sandbox that ends with the program, whatever it asked for.
//
//   node examples/agent-loop/agent.ts "count the words of the poem"
//
// CORRAL_URL, CORRAL_KEY: a Corral server. MODEL_URL, MODEL_KEY, MODEL: any server of the chat completions protocol.

import { Corral } from "corral";

interface ToolCall {
  readonly id: string;
  readonly function: { readonly name: string; readonly arguments: string };
}

interface Message {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string | null;
  readonly tool_calls?: readonly ToolCall[];
  readonly tool_call_id?: string;
}

const TOOLS = [
  {
    type: "function",
    function: {
      name: "run",
      description: "Run a shell command in the sandbox; answers its exit code and output.",
      parameters: { type: "object", properties: { command: { type: "string" } }, required: ["command"] },
    },
  },
];
const MAX_STEPS = 20;
const COMMAND_MS = 60_000;
/** What a model reads of one command's output. */
const OUTPUT_BYTES = 16_384;

function wanted(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`${name} is not set`);
  return value;
}

async function ask(messages: readonly Message[]): Promise<Message> {
  const response = await fetch(`${wanted("MODEL_URL")}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${process.env["MODEL_KEY"] ?? ""}` },
    body: JSON.stringify({ model: process.env["MODEL"] ?? "default", messages, tools: TOOLS }),
  });
  if (!response.ok) throw new Error(`the model's server answered ${response.status}`);
  const { choices } = (await response.json()) as { readonly choices: readonly { readonly message: Message }[] };
  const message = choices[0]?.message;
  if (message === undefined) throw new Error("the model said nothing");
  return message;
}

const [task] = process.argv.slice(2);
if (task === undefined) throw new Error("say what the agent should do");

const corral = new Corral({ url: wanted("CORRAL_URL"), key: wanted("CORRAL_KEY") });
// Gone at the end of the program, and by itself after ten minutes should the program be killed.
await using sandbox = await corral.create({ timeoutMs: 600_000, metadata: { example: "agent-loop" } });

async function run(call: ToolCall): Promise<string> {
  let command: unknown;
  try {
    ({ command } = JSON.parse(call.function.arguments) as { readonly command?: unknown });
  } catch {
    // What a model writes is not always JSON: told below, so that it can write it again.
  }
  if (call.function.name !== "run" || typeof command !== "string") return "unknown call: use run with {command: string}";
  console.log(`$ ${command}`);
  const result = await sandbox.exec({ command, timeoutMs: COMMAND_MS, outputBytes: OUTPUT_BYTES });
  const output = Buffer.concat([result.stdout, result.stderr]).toString();
  return `exit code ${result.exitCode}${result.timedOut ? ", timed out" : ""}${result.truncated ? ", output cut" : ""}\n${output}`;
}

const messages: Message[] = [
  { role: "system", content: "You work in a Linux sandbox. Use the tool `run`. Answer in one sentence when done." },
  { role: "user", content: task },
];
for (let step = 0; ; step++) {
  if (step === MAX_STEPS) throw new Error(`no answer after ${MAX_STEPS} steps`);
  const message = await ask(messages);
  messages.push(message);
  const calls = message.tool_calls ?? [];
  if (calls.length === 0) {
    console.log(message.content);
    break;
  }
  for (const call of calls) messages.push({ role: "tool", tool_call_id: call.id, content: await run(call) });
}
