// Files of many owners' sandboxes. Who may reach which, and whether it runs, is asked of the sandboxes at every call; what a call does is the
// sandbox's. Invariant: no call reaches a sandbox that was not asked for as it was made.

import type { FileCalls } from "../api/files.ts";
import type { Token } from "../store/tokens.ts";
import type { Sandboxes } from "./sandboxes.ts";

export class Files {
  readonly #sandboxes: Sandboxes;

  constructor(sandboxes: Sandboxes) {
    this.#sandboxes = sandboxes;
  }

  /** For one call. */
  async of(token: Token, id: string): Promise<FileCalls> {
    return (await this.#sandboxes.open(token, id)).files;
  }
}
