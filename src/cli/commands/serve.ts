// `corral serve`: starts the server, says where it answers, waits for a signal, ends it. Invariant: the line with the key is printed once
// and goes to stdout; the exit code is 0 when all of it was taken down in order.

import { CorralError } from "../../api/errors.ts";
import { EXIT_OK } from "../exit-codes.ts";
import type { CliHost, ServeRequest } from "../host.ts";
import { tell } from "../tell.ts";

type ConfigFlag = ServeRequest["flags"][number];

export interface ServeOptions {
  readonly data?: string;
  readonly config?: string;
  readonly host?: string;
  readonly port?: string;
  readonly store?: string;
  readonly origin: readonly string[];
  readonly set: readonly string[];
  readonly printConfig?: boolean;
  readonly json?: boolean;
}

export async function serve(options: ServeOptions, host: CliHost): Promise<number> {
  const request = requestOf(options);
  if (options.printConfig === true) {
    const { text, keys } = await host.serverConfig(request);
    process.stdout.write(options.json === true ? `${JSON.stringify(Object.fromEntries(keys))}\n` : text);
    return EXIT_OK;
  }
  const asked = untilAsked();
  await using server = await host.serve(request);
  const { url, key } = server;
  if (options.json === true) process.stdout.write(`${JSON.stringify({ url, key, pid: process.pid })}\n`);
  else {
    // Elsewhere stderr is the log, which says the same in a line of its own.
    if (process.stderr.isTTY) tell(`serving at ${url}; Ctrl-C ends it and its sandboxes`);
    if (key !== null) process.stdout.write(`admin key, shown this once: ${key}\n`);
  }
  await asked;
  return EXIT_OK;
}

function requestOf({ data, config, host, port, store, origin, set }: ServeOptions): ServeRequest {
  const flags: ConfigFlag[] = [];
  for (const pair of set) {
    const at = pair.indexOf("=");
    if (at <= 0) throw new CorralError("request_invalid", `--set: expected key=value, got ${JSON.stringify(pair)}`);
    flags.push({ key: pair.slice(0, at), text: pair.slice(at + 1), source: "--set" });
  }
  const say = (key: string, text: string | undefined, source: string): void => {
    if (text !== undefined) flags.push({ key, text, source });
  };
  say("listen.host", host, "--host");
  say("listen.port", port, "--port");
  say("store.kind", store === undefined ? undefined : "postgres", "--store");
  say("store.url", store, "--store");
  if (origin.length > 0) say("origins", origin.join(","), "--origin");
  return { flags, ...(data === undefined ? {} : { dataDir: data }), ...(config === undefined ? {} : { configFile: config }) };
}

/** The first SIGINT or SIGTERM, also one that comes while it starts. */
function untilAsked(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
}
