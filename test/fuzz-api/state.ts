// What the server gave, so that later requests reach what is there: ids by the name of the field that takes them, and ids of another owner.

import type { Chance } from "../faults/chance.ts";
import type { Pool } from "./values.ts";

/** The newest of each kind are kept. */
const KEPT = 6;
/** How an id begins, by the name of what it names. */
const KINDS: Readonly<Record<string, RegExp>> = {
  sandbox: /^sb[a-z0-9]{20}$/,
  process: /^proc[a-z0-9]{20}$/,
  shell: /^sh[a-z0-9]{20}$/,
  codebase: /^cb[a-z0-9]{20}$/,
  upload: /^up[a-z0-9]{20}$/,
  template: /^tpl[a-z0-9]{20}$/,
  snapshot: /^snap[a-z0-9]{20}$/,
  secret: /^sec[a-z0-9]{20}$/,
  token: /^tok[a-z0-9]{20}$/,
  ticket: /^ct[a-z0-9]{40}$/,
};

export class State {
  readonly #ids = new Map<string, readonly string[]>();
  readonly #foreign: readonly string[];
  /** Ids that must stay out of it: of the keys that ask. */
  readonly #untouched: readonly string[];

  /** A sandbox that lived a moment ago and what is in it: most of what requests made ends soon. */
  lasting: Readonly<Record<string, string>> = {};

  constructor(foreign: readonly string[], untouched: readonly string[]) {
    this.#foreign = foreign;
    this.#untouched = untouched;
  }

  add(kind: string, id: string): void {
    const kept = this.#ids.get(kind) ?? [];
    if (!kept.includes(id)) this.#ids.set(kind, [id, ...kept].slice(0, KEPT));
  }

  isForeign(target: string): boolean {
    const [path = ""] = target.split("?");
    return this.#foreign.some((id) => path.includes(id));
  }

  /** For one request. */
  pool(chance: Chance): Pool {
    return (name) => {
      const kind =
        name === "id" ? (chance.pick(["sandbox", "codebase", "template", "snapshot"]) ?? "") : name === "sandboxId" ? "sandbox" : name;
      if (!(kind in KINDS)) return undefined;
      if (chance.of(1, 12)) return chance.pick(this.#foreign);
      const lasting = this.lasting[kind];
      if (lasting !== undefined && chance.of(2, 3)) return lasting;
      return chance.pick(this.#ids.get(kind) ?? []);
    };
  }

  /** From an answer that was no error. */
  learn(method: string, target: string, body: string): void {
    for (const [text] of body.slice(0, 100_000).matchAll(/[a-z]{2,4}[a-z0-9]{20,40}/g)) {
      const kind = Object.keys(KINDS).find((name) => KINDS[name]?.test(text));
      if (kind !== undefined && !this.#foreign.includes(text) && !this.#untouched.includes(text)) this.add(kind, text);
    }
    const gone = method === "DELETE" ? /^\/v1\/[a-z]+\/([a-z0-9]+)$/.exec(target)?.[1] : undefined;
    for (const [kind, ids] of this.#ids)
      this.#ids.set(
        kind,
        ids.filter((id) => id !== gone),
      );
  }
}
