// Terminals for those who can send no key: a one-time ticket stands for one process, or for one that is started when the ticket is used.
// Not how bytes travel. Invariant: a ticket is bound to its sandbox and to what it was asked for, and opens nothing when its key holds no
// more; who goes away ends nothing.

import { CorralError } from "../api/errors.ts";
import type { ProcessCalls, ProcessInfo } from "../api/processes.ts";
import type { TicketAnswer } from "../api/server.ts";
import type { TerminalTicketBody } from "../api/terminals.ts";
import type { Token } from "../store/tokens.ts";
import type { Keys } from "./keys.ts";
import type { ServiceParts } from "./parts.ts";
import type { Processes } from "./processes.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { Tickets } from "./tickets.ts";

export interface OpenedTerminal {
  readonly token: Token;
  readonly sandboxId: string;
  readonly calls: ProcessCalls;
  readonly process: ProcessInfo;
  readonly from: number;
  /** It was started for this. */
  readonly isNew: boolean;
}

interface TerminalParts extends ServiceParts {
  readonly sandboxes: Sandboxes;
  readonly processes: Processes;
  readonly keys: Keys;
}

const SHELL = "if command -v bash >/dev/null 2>&1; then exec bash -i; else exec sh -i; fi";
const TERM = "xterm-256color";

export class Terminals {
  readonly #parts: TerminalParts;
  readonly #tickets: Tickets<{ readonly sandboxId: string; readonly body: TerminalTicketBody }>;

  constructor(parts: TerminalParts) {
    this.#parts = parts;
    this.#tickets = new Tickets(parts.clock);
  }

  /** Throws for a sandbox or a process that the token does not reach. */
  async ticket(token: Token, sandboxId: string, body: TerminalTicketBody): Promise<TicketAnswer> {
    if ("process" in body) await this.#parts.processes.processes(token, sandboxId).get(body.process);
    else await this.#parts.sandboxes.get(token, sandboxId);
    return this.#tickets.issue(token, { sandboxId, body });
  }

  /** Throws `ticket_invalid`. */
  async open(ticket: string): Promise<OpenedTerminal> {
    const { token, grant } = this.#tickets.take(ticket);
    const { sandboxId, body } = grant;
    if (!(await this.#parts.keys.holds(token))) throw new CorralError("unauthorized", "the key that asked for the ticket holds no more");
    const calls = this.#parts.processes.processes(token, sandboxId);
    if ("process" in body) {
      const process = await calls.get(body.process);
      return { token, sandboxId, calls, process, from: body.from ?? process.output.from, isNew: false };
    }
    const { rows, cols, command = SHELL, env = {}, cwd } = body.terminal;
    const process = await calls.start({
      command,
      pty: { rows, cols },
      env: { TERM, ...env },
      ...(cwd === undefined ? {} : { cwd }),
    });
    return { token, sandboxId, calls, process, from: 0, isNew: true };
  }
}
