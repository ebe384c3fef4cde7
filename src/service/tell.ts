// What happened to a thing, as an event for whoever may know. Not who may: events.ts reads them. Invariant: the moment is the service's
// clock's, and the owner is the thing's own, whoever asked.

import type { Clock } from "../base/clock.ts";
import type { Store } from "../store/store.ts";

interface Teller {
  readonly store: Pick<Store, "events">;
  readonly clock: Clock;
}

export async function tell(
  { store, clock }: Teller,
  { id, ownerId }: { readonly id: string; readonly ownerId: string },
  kind: string,
  data: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  await store.events.append({ at: clock.wallMs(), ownerId, kind, subjectId: id, data });
}
