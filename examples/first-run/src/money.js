// Amounts are whole cents; text is for people.

/** `1999` → `19.99` */
export function formatCents(cents) {
  assertCents(cents);
  const sign = cents < 0 ? "-" : "";
  const text = String(Math.abs(cents)).padStart(3, "0");
  return `${sign}${text.slice(0, -2)}.${text.slice(-2)}`;
}

/** `19.9` → `1990`. Throws on anything that is not an amount. */
export function parseCents(text) {
  const match = /^(-?)(\d+)(?:\.(\d{1,2}))?$/.exec(text.trim());
  if (match === null) throw new TypeError(`not an amount: ${JSON.stringify(text)}`);
  const [, sign, whole, fraction = ""] = match;
  const cents = Number(whole) * 100 + Number(fraction.padEnd(2, "0"));
  return sign === "-" ? -cents : cents;
}

export function assertCents(cents) {
  if (!Number.isSafeInteger(cents)) throw new TypeError(`not whole cents: ${cents}`);
}
