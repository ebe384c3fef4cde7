// All nouns of a server over one data directory: opened in order, closed in the other. What a noun does stands in its own file.
// Not HTTP: the routes of src/server and the local client call the same methods. Invariant: every method takes the token of who asks.

import { Keys } from "./keys.ts";
import type { ServiceParts } from "./parts.ts";
import { Deltas } from "./deltas.ts";
import { Sandboxes } from "./sandboxes.ts";
import { Tokens } from "./tokens.ts";

export interface Service extends AsyncDisposable {
  readonly sandboxes: Sandboxes;
  readonly deltas: Deltas;
  readonly keys: Keys;
  readonly tokens: Tokens;
}

export async function openService(parts: ServiceParts): Promise<Service> {
  const sandboxes = await Sandboxes.open(parts);
  const deltas = new Deltas(parts, sandboxes);
  const keys = new Keys(parts);
  return {
    sandboxes,
    deltas,
    keys,
    tokens: new Tokens(parts, keys),
    [Symbol.asyncDispose]: async () => {
      keys[Symbol.dispose]();
      await sandboxes[Symbol.asyncDispose]();
    },
  };
}
