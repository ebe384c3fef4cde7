// What a sandbox with egress is made of beside its walls: the records of CREATE for the relay, the resolver's file, the variables that point programs
// to the proxy. Not the proxy, and no rule: the relay inside decides nothing. Pure.
// Invariant: without `network` a spec comes back as it was.

import { basename, dirname, join } from "node:path";
import { CorralError } from "../../api/errors.ts";
import type { IdMap, OverlayMount } from "../../view/view.ts";
import type { ContainerSpec } from "../runtime.ts";

/** Where the guest listens inside (guest/relay.h, guest/names.h): addresses of `lo` that nothing outside can be reached by. */
const STUB = "198.18.0.1";
const PROXY = `http://${STUB}:3128`;
/** What a program must not ask the proxy for: the sandbox's own. */
const OWN = "localhost,127.0.0.1,::1";
/** On the sandbox's own /run. */
const TOOLS = "/run/corral";
const DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin";
const DEFAULT_PORTS = [80, 443];
const MAX_PORTS = 16;
const MAX_PORT = 65_535;
const MAX_NAME_BYTES = 64;
/** `nobody`, or the last ids of a range that does not reach so far. */
const NOBODY = 65_534;

/** One attempt, and a short one: the stub is on the same machine or it is not there. */
const RESOLV_CONF = `nameserver ${STUB}\noptions timeout:6 attempts:1\n`;

/** `guestBinary`: beside it lie the layers that hold `corral-connect` (guest/make.sh). `trusted`: overlays are mounted as the machine's root. */
export function withNetwork(spec: ContainerSpec, guestBinary: string, trusted: boolean): ContainerSpec {
  if (spec.network === undefined) return spec;
  const inside = join(dirname(guestBinary), "inside");
  // An overlay, not a bind: a lock on a file that is shared would be a signal between sandboxes, and mountinfo would tell where it lies.
  const tools: OverlayMount = {
    kind: "overlay",
    target: TOOLS,
    lowers: [join(inside, "bin"), join(inside, "empty")],
    options: trusted ? ["metacopy=off", "redirect_dir=nofollow", "index=off"] : [],
    exec: true,
  };
  const { PATH = DEFAULT_PATH } = spec.env;
  const proxies = { HTTP_PROXY: PROXY, HTTPS_PROXY: PROXY, NO_PROXY: OWN };
  const lower = Object.fromEntries(Object.entries(proxies).map(([name, value]) => [name.toLowerCase(), value]));
  return {
    ...spec,
    env: { ...proxies, ...lower, ...spec.env, PATH: `${PATH}:${TOOLS}` },
    mounts: [...spec.mounts, tools, { kind: "file", target: "/etc/resolv.conf", mode: 0o444, content: RESOLV_CONF }],
  };
}

export function networkRecords({ network }: ContainerSpec, ids: IdMap): string[][] {
  if (network === undefined) return [];
  const { socket, ports = DEFAULT_PORTS } = network;
  const name = basename(socket);
  if (!socket.startsWith("/") || name.startsWith(".") || Buffer.byteLength(name) > MAX_NAME_BYTES)
    throw new CorralError(
      "request_invalid",
      `the egress proxy's socket ${JSON.stringify(socket)} is no absolute path with a short, plain name`,
    );
  if (ports.length === 0 || ports.length > MAX_PORTS || !ports.every((port) => Number.isInteger(port) && port > 0 && port <= MAX_PORT))
    throw new CorralError("request_invalid", `the ports of names are 1 to ${MAX_PORTS} numbers from 1 to ${MAX_PORT}`);
  const relay = String(relayId(ids));
  return [["egress", dirname(socket), name, relay, relay], ...ports.map((port) => ["egress-port", String(port)])];
}

/** Inside id of the relay: neither root's nor a command's, so that no command can signal it. */
function relayId({ count, uid }: IdMap): number {
  const id = [NOBODY, count - 1, count - 2].find((one) => one > 0 && one < count && one !== uid);
  if (id === undefined)
    throw new CorralError("runtime_unavailable", "a sandbox with a network needs three ids; give this user a larger range in /etc/subuid");
  return id;
}
