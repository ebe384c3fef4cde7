// A context of bash: a shell of the sandbox (../shell.ts) that calls are run in. Invariant: what a call's variables covered is back after it.

import type { ContextInfo, CreateContextBody } from "../../api/contexts.ts";
import { CorralError } from "../../api/errors.ts";
import type { ShellResult } from "../../api/shells.ts";
import type { Shells } from "../shells.ts";
import type { Call, InterpreterEnd } from "./call.ts";
import type { Runner } from "./context.ts";

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

export class BashRunner implements Runner {
  readonly start: ContextInfo["start"] = { kind: "cold" };
  readonly pid: number;
  readonly ended: Promise<InterpreterEnd>;
  readonly #shells: Shells;
  readonly #id: string;
  readonly #ended = Promise.withResolvers<InterpreterEnd>();
  #isOver = false;
  #grace: NodeJS.Timeout | undefined;

  private constructor(shells: Shells, { id, pid }: { readonly id: string; readonly pid: number }) {
    this.#shells = shells;
    this.#id = id;
    this.pid = pid;
    this.ended = this.#ended.promise;
  }

  /** Throws `context_unavailable` where the sandbox has no bash. */
  static async begin(shells: Shells, { env, cwd }: Required<Pick<CreateContextBody, "env" | "cwd">>): Promise<BashRunner> {
    try {
      return new BashRunner(shells, await shells.open({ env, cwd }));
    } catch (error) {
      if (!(error instanceof CorralError) || error.code !== "shell_unavailable") throw error;
      throw new CorralError("context_unavailable", error.message, { cause: error });
    }
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  credit(): void {
    // The shell counts by itself: what its sink has not taken is not credited.
  }

  run(call: Call): void {
    void this.#run(call).catch((error: unknown) => {
      const lost = error instanceof CorralError ? error : new CorralError("internal", "a shell failed", { cause: error });
      call.refuse(lost);
      this.#over({ why: lost.message, limitHit: null, isLost: true });
    });
  }

  interrupt(orKill?: string): void {
    void this.#shells.interrupt(this.#id).catch(() => undefined);
    if (orKill !== undefined) this.#grace ??= setTimeout(() => this.kill(orKill), 1_000);
  }

  kill(why: string): void {
    if (this.#isOver) return;
    void this.#shells.close(this.#id).then(
      () => this.#over({ why, limitHit: null, isLost: false }),
      () => this.#over({ why, limitHit: null, isLost: false }),
    );
  }

  async #run(call: Call): Promise<void> {
    const { code, input, env = {} } = call.request;
    const names = Object.keys(env);
    const bad = names.find((name) => !NAME.test(name));
    if (bad !== undefined) return call.refuse(new CorralError("request_invalid", `env: bash has no variable ${JSON.stringify(bad)}`));
    if (names.length > 0) await this.#shells.run(this.#id, { command: names.map((name) => covered(name, env[name] ?? "")).join("\n") });
    const result = await this.#shells.run(this.#id, {
      command: code,
      outputBytes: Infinity,
      ...(input === undefined ? {} : { stdin: Buffer.from(input) }),
      onStdout: (chunk) => call.give("stdout", chunk),
      onStderr: (chunk) => call.give("stderr", chunk),
    });
    clearTimeout(this.#grace);
    this.#grace = undefined;
    if (names.length > 0 && !result.closed) await this.#shells.run(this.#id, { command: names.map(uncovered).join("\n") });
    this.#answer(call, result);
  }

  #answer(call: Call, { exitCode, closed, limitHit }: ShellResult): void {
    if (closed) {
      const end = { why: `it ended with exit code ${exitCode}`, limitHit: limitHit === "output" ? null : limitHit, isLost: false };
      call.died(end);
      return this.#over(end);
    }
    const error = { name: "ExitStatus", value: String(exitCode), traceback: "" };
    if (exitCode === 0) call.end({ status: "ok", error: null });
    else call.end({ status: exitCode === 130 ? "interrupted" : "error", error });
  }

  #over(end: InterpreterEnd): void {
    this.#isOver = true;
    clearTimeout(this.#grace);
    this.#ended.resolve(end);
  }
}

function covered(name: string, value: string): string {
  const quoted = `'${value.replaceAll("'", "'\\''")}'`;
  return `__corral_set_${name}=\${${name}+x} __corral_was_${name}=\${${name}-}; export ${name}=${quoted}`;
}

function uncovered(name: string): string {
  const [set, was] = [`__corral_set_${name}`, `__corral_was_${name}`];
  return `if [[ $${set} ]]; then ${name}=$${was}; else unset ${name}; fi; unset ${set} ${was}`;
}
