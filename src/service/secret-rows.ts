// What a value in a row of the store is sealed for. Pure.

import type { SecretRecord } from "../store/secrets.ts";

export function subjectOf({ ownerId, id }: Pick<SecretRecord, "ownerId" | "id">): string {
  return `${ownerId}\0${id}`;
}
