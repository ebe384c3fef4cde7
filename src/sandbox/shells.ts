// Shells of one sandbox by their ids: opened, found again after a server's death, asked for, forgotten.
// Not what one is: shell.ts; not how it is kept: kept-set.ts. Invariant: one that is listed has answered once.

import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import { SHELL_START_MS } from "../api/limits.ts";
import type { OpenShellBody, RunInShell, SandboxShells, ShellInfo, ShellResult } from "../api/shells.ts";
import { randomText } from "../base/random-text.ts";
import type { GuestExit, KeptCommand } from "../runtime/runtime.ts";
import { checkExec } from "./exec-request.ts";
import { cwdError, notFound, startWords } from "./exit-words.ts";
import { readNote, writeNote } from "./kept-note.ts";
import { type KeptContext, KeptSet } from "./kept-set.ts";
import { Shell } from "./shell.ts";
import { SHELL_ARGV } from "./shell-wire.ts";

const DEFAULT_CWD = "/workspace";

export class Shells implements SandboxShells {
  readonly #context: KeptContext;
  readonly #shells: KeptSet<Shell>;

  constructor(context: KeptContext) {
    this.#context = context;
    this.#shells = new KeptSet(context, "shell");
  }

  /** `id`: one that the caller has written down already. */
  async open(request: OpenShellBody & { readonly id?: string } = {}): Promise<ShellInfo> {
    const { clock, demand } = this.#context;
    demand();
    const { env = {}, cwd = DEFAULT_CWD } = request;
    const problem = checkExec({ command: SHELL_ARGV, env, cwd });
    if (problem !== undefined) throw new CorralError("request_invalid", problem);
    const id = request.id ?? `${ID_PREFIX.shell}${randomText(ID_BODY_LENGTH)}`;
    const openedAt = clock.wallMs();
    const shell = await this.#shells.begin(id, {
      make: (onEnd) => new Shell({ id, openedAt, clock, onEnd }),
      exec: {
        ...{ argv: SHELL_ARGV, env, cwd, stdin: true, pty: null, timeoutMs: 0, control: true },
        note: writeNote({ command: "bash", startedAt: openedAt }),
      },
      runs: (made, guest, pid) => made.runs(guest, pid, false),
      startError: (exit) => startError(exit, cwd),
      whole: answered,
    });
    return shell.info();
  }

  /** A shell that an earlier server opened; busy until the command that ran has ended. */
  async takeUp({ key: id, note }: KeptCommand): Promise<void> {
    const { clock } = this.#context;
    const openedAt = readNote(note, clock.wallMs()).startedAt;
    await this.#shells.takeUp(id, {
      make: (onEnd) => new Shell({ id, openedAt, clock, onEnd }),
      offset: Number.MAX_SAFE_INTEGER,
      runs: (made, guest, { pid }) => made.runs(guest, pid, true),
    });
  }

  list(): Promise<{ readonly items: readonly ShellInfo[] }> {
    return Promise.resolve({ items: this.#shells.list().map((shell) => shell.info()) });
  }

  async get(id: string): Promise<ShellInfo> {
    return await Promise.resolve(this.#shells.find(id).info());
  }

  async run(id: string, request: RunInShell): Promise<ShellResult> {
    return await this.#shells.find(id).run(request);
  }

  async interrupt(id: string): Promise<void> {
    await Promise.resolve(this.#shells.find(id).interrupt());
  }

  async close(id: string): Promise<void> {
    const shell = this.#shells.find(id);
    shell.close();
    await shell.ended;
  }
}

/** A bash that is none, or too old, says nothing or ends. */
async function answered(shell: Shell): Promise<void> {
  const timer = setTimeout(() => shell.close("it did not answer"), SHELL_START_MS);
  await shell.ready;
  clearTimeout(timer);
  if (shell.info().state === "closed")
    throw new CorralError("shell_unavailable", "bash ended before it took a command; a shell needs bash 4.4 or later");
}

function startError(exit: GuestExit, cwd: string): CorralError {
  if (exit.cwdFailed) return cwdError(cwd, exit.startErrno);
  if (notFound(exit.startErrno))
    return new CorralError("shell_unavailable", "the sandbox has no bash, which a shell is made of; use exec, or a template with bash");
  return new CorralError("shell_unavailable", `bash could not be started: ${startWords(exit.startErrno)}`);
}
