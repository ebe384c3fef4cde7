// A list that comes in pages, as one.

import type { ListOf } from "../api/server.ts";

/** Asks for the next page when the one before was taken. */
export async function* everyItem<T>(ask: (page: { readonly cursor?: string }) => Promise<ListOf<T>>): AsyncGenerator<T> {
  let page = await ask({});
  for (;;) {
    yield* page.items;
    if (page.next === undefined) return;
    page = await ask({ cursor: page.next });
  }
}
