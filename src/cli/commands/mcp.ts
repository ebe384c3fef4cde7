// `corral mcp`: an MCP server on stdin and stdout, for a client that starts programs. Its sandboxes are of the server over the data
// directory, or of one that is named, else of this process alone. Invariant: stdout carries the protocol and nothing else.

import { CorralError } from "../../api/errors.ts";
import type { PolicyAdditions } from "../../api/corral.ts";
import type { RuntimeName } from "../../api/sandbox.ts";
import type { CreateSandboxBody } from "../../api/server.ts";
import { EXIT_OK } from "../exit-codes.ts";
import type { CliHost } from "../host.ts";
import { createBody } from "../nouns/sandboxes.ts";
import { chooseServer, type ServerOptions } from "../server-choice.ts";
import { tellError } from "../tell.ts";

export interface McpOptions extends ServerOptions {
  readonly codebase?: string;
  readonly template?: string;
  readonly policy?: string;
  readonly allowWrite?: readonly string[];
  readonly hide?: readonly string[];
  readonly runtime?: RuntimeName;
  readonly memory?: string;
  readonly env?: readonly string[];
  readonly net?: string;
  readonly allow?: readonly string[];
  readonly allowCommit?: boolean;
}

export async function mcp(dir: string | undefined, options: McpOptions, host: CliHost): Promise<number> {
  if (dir !== undefined && options.codebase !== undefined)
    throw new CorralError("request_invalid", "a directory and --codebase contradict each other; give one of them");
  const asked = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => asked.abort());
  const sandbox = bodyOf(dir, options);
  const call = { mayCommit: options.allowCommit === true, signal: asked.signal, onError: tellError };
  if (await isElsewhere(options, host)) {
    if (options.policy?.includes("/") === true || (options.allowWrite ?? options.hide) !== undefined)
      throw new CorralError(
        "request_invalid",
        "a server takes the name of a preset; policy files, --allow-write and --hide are for runs without one",
      );
    await host.mcp({ ...call, sandbox, client: await chooseServer(options, host) });
    return EXIT_OK;
  }
  await using here = await host.openClient(options.data === undefined ? {} : { dataDir: options.data });
  const policy = await here.policies.load(options.policy ?? (dir === undefined ? "full-access" : "agent-safe"), additions(dir, options));
  await host.mcp({ ...call, sandbox: { ...sandbox, policy }, client: here.client });
  return EXIT_OK;
}

/** Whether a server is named, or runs over the data directory. */
async function isElsewhere({ server, data }: ServerOptions, host: CliHost): Promise<boolean> {
  if ((server ?? process.env["CORRAL_URL"] ?? "") !== "") return true;
  return (await host.localServer(data === undefined ? {} : { dataDir: data })) !== undefined;
}

function additions(dir: string | undefined, { allowWrite, hide }: McpOptions): PolicyAdditions {
  return {
    ...(allowWrite === undefined ? {} : { allowWrite }),
    ...(hide === undefined ? {} : { hide }),
    ...(dir === undefined ? {} : { codebaseDir: dir }),
  };
}

function bodyOf(dir: string | undefined, { codebase, ...options }: McpOptions): CreateSandboxBody {
  return {
    ...createBody({ ...options, ...(dir === undefined ? {} : { dir }) }),
    ...(codebase === undefined ? {} : { codebase: codebaseOf(codebase) }),
  };
}

/** `ID` or `ID@VERSION`. */
function codebaseOf(word: string): NonNullable<CreateSandboxBody["codebase"]> {
  const [id = "", version] = word.split("@", 2);
  if (version === undefined) return { id };
  if (!/^[1-9]\d{0,8}$/.test(version))
    throw new CorralError("request_invalid", `--codebase: expected ID or ID@VERSION, got ${JSON.stringify(word)}`);
  return { id, version: Number(version) };
}
