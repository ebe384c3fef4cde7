// Which server a command speaks to: --server, else CORRAL_URL, else the one that runs over this machine's data directory.
// Invariant: a key is never sent to a server that was not named together with it: the local server's key stays on this machine.

import type { Client } from "../api/client.ts";
import { CorralError } from "../api/errors.ts";
import { Corral } from "../sdk/corral.ts";
import type { CliHost } from "./host.ts";

export interface ServerOptions {
  /** URL, as given with --server. */
  readonly server?: string;
  readonly data?: string;
}

export async function chooseServer({ server, data }: ServerOptions, host: CliHost, env = process.env): Promise<Client> {
  const url = server ?? env["CORRAL_URL"];
  if (url !== undefined && url !== "") {
    const key = env["CORRAL_KEY"];
    if (key === undefined || key === "")
      throw new CorralError("unauthorized", `${url} wants a key; put it into the environment: CORRAL_KEY=… corral …`);
    return new Corral({ url: checked(url), key });
  }
  const local = await host.localServer(data === undefined ? {} : { dataDir: data });
  if (local === undefined)
    throw new CorralError(
      "server_unreachable",
      "no server runs over this data directory; start one (corral serve), or name one (--server URL with CORRAL_KEY)",
    );
  return new Corral(local);
}

/** SAFETY: a key goes where this points, so it must be an address and nothing that merely looks like one. */
function checked(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || (parsed.protocol !== "http:" && parsed.protocol !== "https:") || parsed.username !== "")
    throw new CorralError("request_invalid", `--server: ${JSON.stringify(url)} is no http or https address`);
  return url;
}
