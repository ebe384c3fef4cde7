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

/** A shell or an interpreter. */
interface Kept {
  readonly id: string;
  readonly isNew: boolean;
}

interface Ways {
  open(): Promise<string>;
  isThere(id: string): Promise<boolean>;
}

export class McpSession implements AsyncDisposable {
  readonly settings: McpSettings;
  readonly #client: Client;
  readonly #clock: () => number;
  #sandbox: Promise<SandboxHandle> | undefined;
  /** Its shell and its interpreters: by `shell`, or by language and name. */
  readonly #kept = new Map<string, { readonly sandboxId: string; readonly id: Promise<string> }>();
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
  async shell(sandbox: SandboxHandle): Promise<Kept> {
    return await this.#keep("shell", sandbox, {
      open: async () => (await sandbox.shells.open()).id,
      isThere: async (id) => (await sandbox.shells.get(id)).state !== "closed",
    });
  }

  /** Id of the interpreter of that name. `isNew`: there was one in an earlier sandbox, with what is gone now. */
  async context(sandbox: SandboxHandle, { language, name }: { readonly language: ContextLanguage; readonly name: string }): Promise<Kept> {
    return await this.#keep(`${language}/${name}`, sandbox, {
      open: async () => (await sandbox.contexts.create({ language })).id,
      // One that has ended begins anew under its id, and says so.
      isThere: () => Promise.resolve(true),
    });
  }

  async #keep(key: string, sandbox: SandboxHandle, ways: Ways): Promise<Kept> {
    const known = this.#kept.get(key);
    if (known?.sandboxId === sandbox.id) {
      const id = await known.id;
      if (await ways.isThere(id)) return { id, isNew: false };
    }
    // Two calls at once open one: the second finds what the first put here.
    if (this.#kept.get(key) !== known) return await this.#keep(key, sandbox, ways);
    const id = ways.open();
    this.#kept.set(key, { sandboxId: sandbox.id, id });
    try {
      return { id: await id, isNew: known !== undefined };
    } catch (error) {
      this.#kept.delete(key);
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
