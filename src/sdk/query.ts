// What a call says in its address. Invariant: what was not given is not sent.

/** Values by name; a list is its name repeated. */
type Words = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

/** With its question mark; empty where there is nothing to say. */
export function query(words: Words): string {
  const pairs = Object.entries(words).flatMap(([name, value]) =>
    (value === undefined ? [] : [value]).flat().map((one): [string, string] => [name, String(one)]),
  );
  return pairs.length === 0 ? "" : `?${new URLSearchParams(pairs).toString()}`;
}
