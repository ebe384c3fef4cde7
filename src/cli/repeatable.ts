// An option that may be given more than once.

/** For commander: adds a value to those before it. */
export function repeatable(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}
