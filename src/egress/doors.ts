// Doors of sandboxes over the proxy's process: opens one with all that holds for its sandbox, and tells what the sandbox needs to use it.
// Knows no owners. Invariant: the authority's key is a file of its user alone; sandboxes see its certificate and no other file of it.

import { chmodSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { NetworkPolicy, NetworkVerdict } from "../api/network.ts";
import { createFileAtomic, writeFileAtomic } from "../base/atomic-file.ts";
import { type Authority, createAuthority } from "./certificate.ts";
import { type EgressTotals, NO_FIGURES, sum } from "./figures.ts";
import { EgressProxy, type ProxyProcess, type SandboxNetwork } from "./proxy.ts";

export interface DoorsOptions {
  /** Of this user alone; of the authority. */
  readonly dir: string;
  /** Short, and of this user alone; of the sockets. */
  readonly socketsDir: string;
  /** Authorities that sandboxes trust already, in PEM. */
  readonly publicBundle?: string;
  readonly resolvers?: readonly string[];
  readonly start: (cwd: string) => ProxyProcess;
  /** As root: the id that the process takes. */
  readonly id?: number;
  readonly nowMs: number;
  /** What holds for a sandbox that is opened with this policy. */
  readonly networkOf: (sandboxId: string, policy: NetworkPolicy) => Promise<SandboxNetwork>;
  readonly onVerdict: (verdict: NetworkVerdict) => void;
  readonly onLost?: (said: string) => void;
}

/** A directory of the node, and an empty one below it, as one read-only mount: its mount point is made where it is missing. */
interface ShownDir {
  readonly kind: "overlay";
  readonly target: string;
  readonly lowers: readonly [string, string];
  readonly options: readonly [];
  readonly exec: false;
}

interface Opened {
  readonly socket: string;
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly ShownDir[];
}

/** Inside; /run is the sandbox's own. */
const INSIDE = "/run/corral-ca";
const BUNDLE = "ca.pem";
/** What programs ask for the authorities to trust. */
const BUNDLE_VARIABLES = [
  "SSL_CERT_FILE",
  "NODE_EXTRA_CA_CERTS",
  "REQUESTS_CA_BUNDLE",
  "PIP_CERT",
  "CURL_CA_BUNDLE",
  "GIT_SSL_CAINFO",
  "CARGO_HTTP_CAINFO",
  "DENO_CERT",
  "AWS_CA_BUNDLE",
];
const BUNDLE_ENV: Readonly<Record<string, string>> = Object.fromEntries(BUNDLE_VARIABLES.map((name) => [name, `${INSIDE}/${BUNDLE}`]));

export class EgressDoors implements AsyncDisposable {
  readonly #options: DoorsOptions;
  readonly #proxy: EgressProxy;
  readonly #shown: ShownDir;
  readonly #open = new Set<string>();
  #ended = NO_FIGURES;

  constructor(options: DoorsOptions) {
    this.#options = options;
    const { dir, socketsDir, publicBundle, resolvers, start, id, onVerdict, onLost } = options;
    const authority = authorityIn(dir, options.nowMs);
    const [shown, empty] = [join(dir, "shown"), join(dir, "empty")];
    for (const each of [shown, empty]) {
      mkdirSync(each, { recursive: true });
      chmodSync(each, 0o755);
    }
    this.#shown = { kind: "overlay", target: INSIDE, lowers: [shown, empty], options: [], exec: false };
    const bundle = publicBundle === undefined ? "" : readFileSync(publicBundle, "utf8");
    const trusted = `${bundle}\n${authority.certificate}`;
    // Not below the mounts of others without need.
    if (textOf(join(shown, BUNDLE)) !== trusted) writeFileAtomic(join(shown, BUNDLE), trusted, { mode: 0o644 });
    this.#proxy = new EgressProxy({
      ...{ socketsDir, authority, start, onVerdict },
      ...(bundle === "" ? {} : { upstreamCa: [bundle] }),
      ...(resolvers === undefined ? {} : { resolvers }),
      ...(id === undefined ? {} : { id }),
      ...(onLost === undefined ? {} : { onLost }),
    });
  }

  async open(sandboxId: string, policy: NetworkPolicy): Promise<Opened> {
    const network = await this.#options.networkOf(sandboxId, policy);
    const { socket } = await this.#proxy.open(sandboxId, network);
    this.#open.add(sandboxId);
    const placeholders = Object.fromEntries(network.secrets.map(({ name, placeholder }) => [name, placeholder]));
    return { socket, env: { ...BUNDLE_ENV, ...placeholders }, mounts: [this.#shown] };
  }

  /** Of sandboxes with a door. */
  get ids(): readonly string[] {
    return [...this.#open];
  }

  /** False: it has no door. Holds for the next request; what it no longer carries is cut. */
  async update(sandboxId: string, network: SandboxNetwork): Promise<boolean> {
    if (!this.#open.has(sandboxId)) return false;
    await this.#proxy.update(sandboxId, network);
    return true;
  }

  async close(sandboxId: string): Promise<void> {
    if (!this.#open.delete(sandboxId)) return;
    const last = (await this.#proxy.metrics()).find(({ id }) => id === sandboxId);
    if (last !== undefined) this.#ended = sum(this.#ended, last);
    await this.#proxy.close(sandboxId);
  }

  /** Of all sandboxes together, ended ones too. */
  async totals(): Promise<EgressTotals> {
    return (await this.#proxy.metrics()).reduce<EgressTotals>(sum, this.#ended);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy[Symbol.asyncDispose]();
  }
}

/** One for the life of a data directory: sandboxes that live on trust it. */
function authorityIn(dir: string, nowMs: number): Authority {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const file = join(dir, "authority.json");
  const known = textOf(file);
  if (known !== undefined) return JSON.parse(known) as Authority;
  const made = createAuthority(nowMs);
  // Two runs may begin at once: one's stands, and the other takes it.
  return createFileAtomic(file, JSON.stringify(made), { sync: true }) ? made : authorityIn(dir, nowMs);
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
