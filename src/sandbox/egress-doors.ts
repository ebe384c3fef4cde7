// The egress proxy of a data directory: where its files lie, what its process may do, which authorities it and sandboxes trust.
// What it lets through is whoever opens it to say. Invariant: the process reads our code and the directory of its sockets, no more.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { NetworkPolicy } from "../api/network.ts";
import type { Clock } from "../base/clock.ts";
import { type DoorsOptions, EgressDoors } from "../egress/doors.ts";
import { CONFINED_ID, startConfinedNode } from "../runtime/confined-node.ts";
import { type DataDir, egressSockets } from "./data-dir.ts";

export interface OpenDoorsOptions extends Pick<DoorsOptions, "onVerdict"> {
  readonly data: DataDir;
  readonly uid: number;
  readonly clock: Clock;
  /** Absent: the rules that a sandbox is made with hold, without secrets, as far as this machine reaches. */
  readonly networkOf?: DoorsOptions["networkOf"];
}

/** Of whoever runs sandboxes on a machine of their own: private ranges too, where a rule names them. */
const OWN_CEILING: NetworkPolicy = {
  open: true,
  allow: [
    { cidr: "0.0.0.0/0", ports: "any" },
    { cidr: "::/0", ports: "any" },
  ],
};

const SOURCES = join(import.meta.dirname, "..");
/** Where distributions keep the authorities of the public. */
const BUNDLES = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/** Its process starts with the first door. */
export function openDoors({ data, uid, clock, ...calls }: OpenDoorsOptions): EgressDoors {
  const publicBundle = BUNDLES.find((file) => existsSync(file));
  return new EgressDoors({
    dir: join(data.root, "egress"),
    socketsDir: egressSockets(data),
    nowMs: clock.wallMs(),
    start: (cwd) => startConfinedNode({ program: join(SOURCES, "egress", "main.ts"), cwd, reads: [SOURCES], writes: [cwd] }),
    ...(publicBundle === undefined ? {} : { publicBundle }),
    ...(uid === 0 ? { id: CONFINED_ID } : {}),
    networkOf: (_id, policy) => Promise.resolve({ version: 1, policy, ceiling: OWN_CEILING, secrets: [] }),
    ...calls,
  });
}
