// What every call of a client takes, whatever its noun. Types alone.

export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** Of a list that has pages. */
export interface PageOptions extends CallOptions {
  readonly limit?: number;
  /** `next` of the page before. */
  readonly cursor?: string;
}

/** One page. */
export interface ListOf<T> {
  readonly items: readonly T[];
  /** Cursor of the next page. */
  readonly next?: string;
}
