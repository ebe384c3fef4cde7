// Git repositories as sources of codebases: who may have which fetched, and how many at once. Not how one is fetched: that is the
// machine's tool. Invariant: a key of scope user has fetched from hosts that the configuration names, over https, and from nowhere else.

import { join } from "node:path";
import type { GitSource } from "../api/codebases.ts";
import { CorralError } from "../api/errors.ts";
import { MAX_GIT_FETCHES } from "../api/limits.ts";
import { randomText } from "../base/random-text.ts";
import type { Token } from "../store/tokens.ts";
import type { FetchedTree, ServiceParts } from "./parts.ts";

export class GitSources {
  readonly #parts: ServiceParts;
  #running = 0;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
  }

  /** SAFETY: the server reaches what its callers may not: its own machine's files, and hosts of its network. */
  demand({ scope }: Token, { url }: GitSource): void {
    const { protocols, hosts } = this.#parts.host.git;
    const { protocol, hostname } = URL.parse(url) ?? { protocol: "", hostname: "" };
    if (!protocols.some((allowed) => protocol === `${allowed}:`))
      throw new CorralError("request_invalid", `git.url: this server fetches over ${protocols.join(", ") || "nothing"} (git.protocols)`);
    if (scope !== "admin" && (protocol !== "https:" || !hosts.includes(hostname)))
      throw new CorralError(
        "forbidden",
        "git.url: this server fetches from that host for keys of scope admin alone (git.hosts); upload the files instead",
      );
  }

  async fetch({ url, ref, depth }: GitSource): Promise<FetchedTree> {
    const { host } = this.#parts;
    // Each may take a core, the time and the disk that one is allowed.
    if (this.#running >= MAX_GIT_FETCHES)
      throw new CorralError("overloaded", `${MAX_GIT_FETCHES} repositories are being fetched already; ask again`);
    this.#running++;
    try {
      const asked = { url, ...(ref === undefined ? {} : { ref }), ...(depth === undefined ? {} : { depth }) };
      const fetched = await host.git.fetch({ ...asked, dir: join(host.buildDir, `git-${randomText(16)}`) });
      return {
        commit: fetched.commit,
        tar: () => fetched.tar(),
        [Symbol.asyncDispose]: async () => {
          this.#running--;
          await fetched[Symbol.asyncDispose]();
        },
      };
    } catch (error) {
      this.#running--;
      throw error;
    }
  }
}
