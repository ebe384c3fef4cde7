// Ids of everything that a person or a client can name. No generator lives here: making one needs randomness (base/).
// Invariant: a letter prefix and 20 characters of [a-z0-9], no separator, so an id fits a DNS label and every foreign wire.

/** Prefix by noun. One table: a prefix that stands nowhere else cannot collide. */
export const ID_PREFIX = {
  sandbox: "sb",
  codebase: "cb",
  upload: "up",
  template: "tpl",
  snapshot: "snap",
  layer: "ly",
  shell: "sh",
  context: "ctx",
  process: "proc",
  session: "ses",
  turn: "turn",
  world: "wld",
  canon: "can",
  branch: "br",
  ledger: "led",
  deployment: "dep",
  node: "node",
  token: "tok",
  secret: "sec",
} as const;

export type IdNoun = keyof typeof ID_PREFIX;

/** Characters after the prefix. 20 of 36 symbols carry about 103 bits. */
export const ID_BODY_LENGTH = 20;

/** Tells whether `text` is spelled like an id of `noun`; says nothing about whether it exists. */
export function isId(noun: IdNoun, text: string): boolean {
  const prefix = ID_PREFIX[noun];
  return text.length === prefix.length + ID_BODY_LENGTH && text.startsWith(prefix) && /^[a-z0-9]+$/.test(text.slice(prefix.length));
}
