// Shells of one sandbox by their ids: opened, found again after a server's death, asked for, forgotten.
// Not what one is: shell.ts. Invariant: an id stands for one shell for ever; one that is listed has answered once.

import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import { KILL_GRACE_MS, SHELL_START_MS } from "../api/limits.ts";
import type { OpenShellBody, RunInShell, SandboxShells, ShellInfo, ShellResult } from "../api/shells.ts";
import { randomText } from "../base/random-text.ts";
import type { GuestExit, KeptCommand } from "../runtime/runtime.ts";
import { checkExec } from "./exec-request.ts";
import { cwdError, notFound, startWords } from "./exit-words.ts";
import { readNote, writeNote } from "./kept-note.ts";
import type { KeptContext } from "./processes.ts";
import { Shell } from "./shell.ts";
import { SHELL_ARGV } from "./shell-wire.ts";

const DEFAULT_CWD = "/workspace";

export class Shells implements SandboxShells {
  readonly #context: KeptContext;
  readonly #shells = new Map<string, Shell>();

  constructor(context: KeptContext) {
    this.#context = context;
  }

  /** `id`: one that the caller has written down already. */
  async open(request: OpenShellBody & { readonly id?: string } = {}): Promise<ShellInfo> {
    const { container, clock, roster, demand } = this.#context;
    demand();
    const { env = {}, cwd = DEFAULT_CWD } = request;
    const problem = checkExec({ command: SHELL_ARGV, env, cwd });
    if (problem !== undefined) throw new CorralError("request_invalid", problem);
    const id = request.id ?? `${ID_PREFIX.shell}${randomText(ID_BODY_LENGTH)}`;
    const openedAt = clock.wallMs();
    roster.add(id, () => this.#forget(id));
    const { shell, release } = this.#make(id, openedAt);
    const began = Promise.withResolvers<void>();
    try {
      const guest = container.exec({
        ...shell.sinks,
        ...{
          argv: SHELL_ARGV,
          env,
          cwd,
          stdin: true,
          pty: null,
          timeoutMs: 0,
          idleTimeoutMs: 0,
          graceMs: KILL_GRACE_MS,
          outputBytes: 0,
          control: true,
        },
        key: id,
        note: writeNote({ command: "bash", startedAt: openedAt }),
        onStarted: (pid) => {
          shell.runs(guest, pid, false);
          began.resolve();
        },
        onExit: (exit) => (exit.startErrno === 0 ? shell.sinks.onExit(exit) : began.reject(startError(exit, cwd))),
        onLost: (reason) => {
          shell.sinks.onLost(reason);
          began.reject(new CorralError("sandbox_lost", `the sandbox ended before the shell was there: ${reason}`));
        },
      });
      await began.promise;
      await this.#answered(shell);
    } catch (error) {
      roster.remove(id);
      release();
      throw error;
    }
    this.#shells.set(id, shell);
    return shell.info();
  }

  /** A shell that an earlier server opened; busy until the command that ran has ended. */
  async takeUp({ key: id, note }: KeptCommand): Promise<void> {
    const { container, clock, roster } = this.#context;
    roster.add(id, () => this.#forget(id));
    const { shell, release } = this.#make(id, readNote(note, clock.wallMs()).startedAt);
    const found = Promise.withResolvers<void>();
    const guest = container.attach(id, Number.MAX_SAFE_INTEGER, {
      ...shell.sinks,
      onAttached: ({ pid }) => {
        shell.runs(guest, pid, true);
        this.#shells.set(id, shell);
        found.resolve();
      },
      onUnknown: () => {
        roster.remove(id);
        release();
        found.resolve();
      },
      onLost: (reason) => {
        shell.sinks.onLost(reason);
        found.resolve();
      },
    });
    await found.promise;
  }

  list(): Promise<{ readonly items: readonly ShellInfo[] }> {
    return Promise.resolve({ items: [...this.#shells.values()].map((shell) => shell.info()) });
  }

  async get(id: string): Promise<ShellInfo> {
    return await Promise.resolve(this.#find(id).info());
  }

  async run(id: string, request: RunInShell): Promise<ShellResult> {
    return await this.#find(id).run(request);
  }

  async interrupt(id: string): Promise<void> {
    await Promise.resolve(this.#find(id).interrupt());
  }

  async close(id: string): Promise<void> {
    const shell = this.#find(id);
    shell.close();
    await shell.ended;
  }

  /** A bash that is none, or too old, says nothing or ends. */
  async #answered(shell: Shell): Promise<void> {
    const timer = setTimeout(() => shell.close("it did not answer"), SHELL_START_MS);
    await shell.ready;
    clearTimeout(timer);
    if (shell.info().state === "closed")
      throw new CorralError("shell_unavailable", "bash ended before it took a command; a shell needs bash 4.4 or later");
  }

  #make(id: string, openedAt: number): { readonly shell: Shell; readonly release: () => void } {
    const { clock, guard, roster } = this.#context;
    const release = guard((limit) => shell.killFor(limit));
    const onEnd = (): void => {
      release();
      roster.ended(id);
    };
    const shell = new Shell({ id, openedAt, clock, onEnd });
    return { shell, release };
  }

  #find(id: string): Shell {
    const shell = this.#shells.get(id);
    if (shell === undefined)
      throw new CorralError("shell_not_found", `there is no shell ${id}: it never was, or it ended and was forgotten`);
    return shell;
  }

  #forget(id: string): void {
    this.#shells.delete(id);
    this.#context.forget(id);
  }
}

function startError(exit: GuestExit, cwd: string): CorralError {
  if (exit.cwdFailed) return cwdError(cwd, exit.startErrno);
  if (notFound(exit.startErrno))
    return new CorralError("shell_unavailable", "the sandbox has no bash, which a shell is made of; use exec, or a template with bash");
  return new CorralError("shell_unavailable", `bash could not be started: ${startWords(exit.startErrno)}`);
}
