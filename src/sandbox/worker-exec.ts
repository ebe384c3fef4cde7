// Starts one of the guest's own programs in a sandbox: files, watch, dial. What it says and is told is its client's.
// Invariant: it gets no environment, no time limit and no grace: whoever started it ends it.

import type { Container, GuestExec, GuestProcess } from "../runtime/runtime.ts";

type Sinks = Pick<GuestExec, "onOutput" | "onExit" | "onLost"> & Partial<Pick<GuestExec, "onStarted">>;

export function startWorker(container: Container, argv: readonly string[], sinks: Sinks): GuestProcess {
  return container.exec({
    ...{ argv, worker: true, env: {}, cwd: "/", stdin: true, pty: null },
    ...{ timeoutMs: 0, idleTimeoutMs: 0, graceMs: 0, outputBytes: 0 },
    onStarted: () => undefined,
    ...sinks,
  });
}
