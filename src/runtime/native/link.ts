// The way to a spawner: the socket and what is known of the process behind it. A child of ours, or one that an earlier process left.
// It knows no frame. Invariant: `ended` resolves once, and after `gone` the process is no more.

import { type ChildProcess, spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { CorralError } from "../../api/errors.ts";
import { identify, isAlive, type ProcessIdentity } from "../../base/process-identity.ts";

export interface Link {
  readonly socket: Socket;
  /** Its end does not follow from ours. */
  readonly lasting: boolean;
  readonly pid: number;
  /** Resolves with the reason. */
  readonly ended: Promise<string>;
  /** Whose socket it is, where that is not known from the start. */
  isProcess(pid: number): void;
  /** Ends it, whatever it is doing. */
  end(reason: string): void;
  /** Waits until the process is no more. */
  gone(): Promise<void>;
}

const STDERR_BYTES = 4096;
/** A spawner gives its sandboxes ten seconds to end; then it leaves. */
const GONE_MS = 15_000;
const GONE_PAUSE_MS = 5;

export function startLink(program: string, argv: readonly string[], lasting: boolean): Link {
  // No environment and no descriptor but its socket: the spawner lives beside sandboxes. A session of its own, so that a
  // Ctrl-C reaches the server alone, which then ends sandboxes in order.
  const child = spawn(program, argv, { cwd: "/", env: {}, detached: true, stdio: ["ignore", "ignore", "pipe", "pipe"] });
  const socket = child.stdio[3] as Socket;
  const ended = Promise.withResolvers<string>();
  let stderr = "";
  let broken: string | undefined;
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr = (stderr + chunk.toString("utf8")).slice(-STDERR_BYTES);
  });
  child.on("error", (error) => ended.resolve(`the guest program could not be started: ${error.message}`));
  child.on("close", () => ended.resolve(broken ?? `the spawner ended${stderr === "" ? "" : `: ${stderr.trim()}`}`));
  return {
    socket,
    lasting,
    pid: child.pid ?? 0,
    ended: ended.promise,
    isProcess: () => undefined,
    end: (reason) => {
      broken = reason;
      endChild(child, socket, lasting);
    },
    gone: async () => void (await ended.promise),
  };
}

function endChild(child: ChildProcess, socket: Socket, lasting: boolean): void {
  // Its end of file: it takes everything down and leaves. One that would wait for a successor is killed, and its sandboxes die with it.
  if (lasting) child.kill("SIGKILL");
  socket.destroy();
}

/** `undefined`: nobody listens there. */
export async function connectLink(path: string): Promise<Link | undefined> {
  const socket = await connected(path);
  if (socket === undefined) return undefined;
  const ended = Promise.withResolvers<string>();
  let broken: string | undefined;
  let owner: ProcessIdentity | undefined;
  socket.on("close", () => ended.resolve(broken ?? "the spawner closed the connection"));
  return {
    socket,
    lasting: true,
    get pid() {
      return owner?.pid ?? 0;
    },
    ended: ended.promise,
    isProcess: (pid) => {
      owner = identify(pid);
    },
    end: (reason) => {
      broken = reason;
      kill(owner);
      socket.destroy();
    },
    gone: async () => {
      await ended.promise;
      const isThere = (): boolean => owner !== undefined && isAlive(owner);
      for (let waited = 0; isThere() && waited < GONE_MS; waited += GONE_PAUSE_MS) await sleep(GONE_PAUSE_MS);
    },
  };
}

function kill(spawner: ProcessIdentity | undefined): void {
  if (spawner === undefined || !isAlive(spawner)) return;
  try {
    // SAFETY: the very process that answered ADOPT, by pid and start time. Left alive it would hold sandboxes that nobody can reach.
    process.kill(spawner.pid, "SIGKILL");
  } catch {
    // It ended between the two lines, which is what was wanted.
  }
}

async function connected(path: string): Promise<Socket | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket | undefined>();
  const socket = connect(path);
  socket.on("connect", () => resolve(socket));
  socket.on("error", (error: NodeJS.ErrnoException) => {
    // No socket, or one whose owner is dead.
    if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
    else reject(new CorralError("runtime_unavailable", `the socket of an earlier spawner, ${path}, cannot be used: ${error.message}`));
  });
  return await promise;
}
