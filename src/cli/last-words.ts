// What a command said last, and whether it says that it had no network. Prints nothing. Invariant: what it keeps is bounded; it decides nothing,
// since any program can say anything.

const KEPT_BYTES = 16 * 1024;
/** Of the C library, Node.js, curl and git, where there is no route and no resolver. */
const NO_NETWORK = [
  "EAI_AGAIN",
  "ENETUNREACH",
  "Network is unreachable",
  "Temporary failure in name resolution",
  "Could not resolve host",
  "Could not resolve proxy",
];

export class LastWords {
  #kept: Buffer = Buffer.alloc(0);

  take(chunk: Uint8Array): void {
    const old = this.#kept.subarray(Math.max(0, this.#kept.length + chunk.length - KEPT_BYTES));
    this.#kept = Buffer.concat([old, chunk.subarray(-KEPT_BYTES)]);
  }

  get lackNetwork(): boolean {
    return NO_NETWORK.some((words) => this.#kept.includes(words));
  }
}
