// What one MCP client has: a sandbox that is made when a tool first needs it, with a shell and interpreters in it, and taken away with the client.
// Not the protocol: server.ts. Invariant: at any time one session has at most one sandbox, and after its disposal none.

import type { Client, SandboxHandle } from "../api/client.ts";
import type { ContextLanguage } from "../api/contexts.ts";
import { CorralError, errorCode } from "../api/errors.ts";
import { MAX_MCP_CALLS, MCP_IDLE_MS } from "../api/limits.ts";
import type { CreateSandboxBody } from "../api/server.ts";

export interface McpSettings {
  /** What a client's sandbox is made with. Its life is the session's. */
  readonly sandbox: Omit<CreateSandboxBody, "timeoutMs" | "onTimeout">;
  /** Whether the client may make its changes real: the tool `sandbox_commit` is there. */
  readonly mayCommit: boolean;
}

/** What a tool gets: the sandbox, and whether what an earlier call left in it is gone. */
export interface Stand {
  readonly sandbox: SandboxHandle;
  readonly stateLost: boolean;
}

export class McpSession implements AsyncDisposable {
  readonly settings: McpSettings;
  readonly #client: Client;
  readonly #clock: () => number;
  #sandbox: Promise<SandboxHandle> | undefined;
  #shell: { readonly sandboxId: string; readonly id: Promise<string> } | undefined;
  /** By language and name. */
  readonly #contexts = new Map<string, { readonly sandboxId: string; readonly id: Promise<string> }>();
  #renewedAt = 0;
  #hadOne = false;
  #calls = 0;
  #isClosed = false;

  /** `clock`: ms, only differences count. */
  constructor(client: Client, settings: McpSettings, clock: () => number = () => performance.now()) {
    this.#client = client;
    this.settings = settings;
    this.#clock = clock;
  }

  /**
   * Runs one call over the session's sandbox. One that ended meanwhile (its time ran out, somebody destroyed it) is replaced once, and
   * `stateLost` says so. Throws `overloaded` above MAX_MCP_CALLS calls at once.
   */
  async call<T>(act: (stand: Stand) => Promise<T>): Promise<T> {
    if (this.#calls >= MAX_MCP_CALLS)
      throw new CorralError("overloaded", `${MAX_MCP_CALLS} calls of this session are running; wait for one of them`);
    this.#calls += 1;
    try {
      return await this.#call(act);
    } finally {
      this.#calls -= 1;
    }
  }

  async #call<T>(act: (stand: Stand) => Promise<T>): Promise<T> {
    const stateLost = this.#sandbox === undefined && this.#hadOne;
    const making = (this.#sandbox ??= this.#make());
    const sandbox = await making;
    try {
      await this.#renew(sandbox);
      return await act({ sandbox, stateLost });
    } catch (error) {
      if (errorCode(error) !== "sandbox_not_found") throw error;
      // Whoever sees it first takes it down; the next call makes another.
      if (this.#sandbox === making) this.#sandbox = undefined;
      throw new CorralError(
        "sandbox_not_found",
        "the sandbox of this session has ended, with all that was in it; the next call begins in a new one",
      );
    }
  }

  async #make(): Promise<SandboxHandle> {
    try {
      if (this.#isClosed) throw new CorralError("canceled", "the session has ended");
      const sandbox = await this.#client.create({ ...this.settings.sandbox, timeoutMs: MCP_IDLE_MS });
      if (this.#isClosed) {
        await sandbox.destroy();
        throw new CorralError("canceled", "the session has ended");
      }
      this.#hadOne = true;
      this.#renewedAt = this.#clock();
      return sandbox;
    } catch (error) {
      this.#sandbox = undefined;
      throw error;
    }
  }

  /** A sandbox whose session is gone without a word ends by itself; one that is used does not. */
  async #renew(sandbox: SandboxHandle): Promise<void> {
    const now = this.#clock();
    if (now - this.#renewedAt < MCP_IDLE_MS / 4) return;
    this.#renewedAt = now;
    await sandbox.renew(MCP_IDLE_MS);
  }

  /** Id of the session's shell. `isNew`: what an earlier command left in a shell (variables, functions, jobs) is not in this one. */
  async shell(sandbox: SandboxHandle): Promise<{ readonly id: string; readonly isNew: boolean }> {
    const known = this.#shell;
    if (known?.sandboxId === sandbox.id) {
      const id = await known.id;
      if ((await sandbox.shells.get(id)).state !== "closed") return { id, isNew: false };
    }
    // Two calls at once open one shell: the second finds what the first put here.
    if (this.#shell !== known) return await this.shell(sandbox);
    const id = sandbox.shells.open().then((shell) => shell.id);
    this.#shell = { sandboxId: sandbox.id, id };
    try {
      return { id: await id, isNew: known !== undefined };
    } catch (error) {
      this.#shell = undefined;
      throw error;
    }
  }

  /** Id of the interpreter of that name. `isNew`: there was one in an earlier sandbox, with what is gone now. */
  async context(
    sandbox: SandboxHandle,
    { language, name }: { readonly language: ContextLanguage; readonly name: string },
  ): Promise<{ readonly id: string; readonly isNew: boolean }> {
    const key = `${language}/${name}`;
    const known = this.#contexts.get(key);
    if (known?.sandboxId === sandbox.id) return { id: await known.id, isNew: false };
    const id = sandbox.contexts.create({ language }).then((context) => context.id);
    this.#contexts.set(key, { sandboxId: sandbox.id, id });
    try {
      return { id: await id, isNew: known !== undefined };
    } catch (error) {
      this.#contexts.delete(key);
      throw error;
    }
  }

  /** Idempotent; a call that runs fails with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const sandbox = await this.#sandbox?.catch(() => undefined);
    await sandbox?.destroy();
  }
}
