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
