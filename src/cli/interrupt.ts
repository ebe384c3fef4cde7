// Ctrl-C and its kin while a sandbox lives: the first asks the program to end, the second ends it, the third ends us.
// Invariant: whichever moment a signal comes, the sandbox is destroyed before this process ends, or dies with it.

const CAUGHT: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];
const NUMBERS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

export interface Interruption extends Disposable {
  /** Aborted by the first signal. */
  readonly soft: AbortSignal;
  /** Aborted by the second. */
  readonly hard: AbortSignal;
  /** The first signal's number, once one came. */
  readonly signal: number | undefined;
}

/** Installs the handlers; disposing takes them away again. */
export function interruption(): Interruption {
  const soft = new AbortController();
  const hard = new AbortController();
  let first: number | undefined;
  const onSignal = (name: NodeJS.Signals): void => {
    const number = NUMBERS[name] ?? 0;
    if (first === undefined) {
      first = number;
      soft.abort();
    } else if (!hard.signal.aborted) {
      hard.abort();
    } else {
      // SAFETY: leaving without the clean-up is sound only because the spawner ends every sandbox of ours when its socket closes.
      process.exit(128 + first);
    }
  };
  for (const name of CAUGHT) process.on(name, onSignal);
  return {
    soft: soft.signal,
    hard: hard.signal,
    get signal() {
      return first;
    },
    [Symbol.dispose]() {
      for (const name of CAUGHT) process.off(name, onSignal);
    },
  };
}
