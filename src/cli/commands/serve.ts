// `corral serve`: starts the server, says where it answers, waits for a signal, ends it. Invariant: the line with the key is printed once
// and goes to stdout; the exit code is 0 when all of it was taken down in order.

import { CorralError } from "../../api/errors.ts";
import { EXIT_OK } from "../exit-codes.ts";
import type { CliHost } from "../host.ts";
import { tell } from "../tell.ts";

export interface ServeOptions {
  readonly data?: string;
  readonly host: string;
  readonly port: string;
  readonly store?: string;
  readonly origin: readonly string[];
  readonly json?: boolean;
}

const MAX_PORT = 65_535;

export async function serve(options: ServeOptions, host: CliHost): Promise<number> {
  const port = Number(options.port);
  if (!/^\d{1,5}$/.test(options.port) || port > MAX_PORT)
    throw new CorralError("request_invalid", `--port: expected a number from 0 to ${MAX_PORT}, got ${JSON.stringify(options.port)}`);
  const asked = untilAsked();
  await using server = await host.serve({
    host: options.host,
    port,
    origins: options.origin,
    ...(options.data === undefined ? {} : { dataDir: options.data }),
    ...(options.store === undefined ? {} : { storeUrl: options.store }),
  });
  const { url, key } = server;
  if (options.json === true) process.stdout.write(`${JSON.stringify({ url, key, pid: process.pid })}\n`);
  else {
    tell(`serving at ${url}; Ctrl-C ends it and its sandboxes`);
    if (key !== null) process.stdout.write(`admin key, shown this once: ${key}\n`);
  }
  await asked;
  return EXIT_OK;
}

/** The first SIGINT or SIGTERM, also one that comes while it starts. */
function untilAsked(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
}
