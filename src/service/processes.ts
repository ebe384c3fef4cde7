// Processes, shells and contexts of many owners' sandboxes: who may reach a sandbox may start and hear what runs in it. One that is paused is resumed.
// Not what a process is: that is sandbox/'s. Invariant: every call asks anew whether the token reaches the sandbox.

import type { CallOptions } from "../api/calls.ts";
import type { ContextCalls, SandboxContexts } from "../api/contexts.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import type { OutputOptions, ProcessCalls, ProcessOutput, SandboxProcesses } from "../api/processes.ts";
import type { SandboxShells, ShellCalls } from "../api/shells.ts";
import { randomText } from "../base/random-text.ts";
import type { Token } from "../store/tokens.ts";
import { createOnce } from "./idempotent.ts";
import type { ServiceParts } from "./parts.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { demandWanted } from "../sandbox/wanted.ts";

export class Processes {
  readonly #parts: ServiceParts;
  readonly #sandboxes: Sandboxes;

  constructor(parts: ServiceParts, sandboxes: Sandboxes) {
    this.#parts = parts;
    this.#sandboxes = sandboxes;
  }

  processes(token: Token, sandboxId: string): ProcessCalls {
    const open = async (signal?: AbortSignal): Promise<SandboxProcesses> => {
      demandWanted(signal);
      return (await this.#sandboxes.open(token, sandboxId)).processes;
    };
    return {
      start: async (body, { idempotencyKey, signal } = {}) => {
        const processes = await open(signal);
        const id = `${ID_PREFIX.process}${randomText(ID_BODY_LENGTH)}`;
        const make = () => processes.start({ ...body, id });
        const what = { sandboxId, process: body };
        const { ownerId } = token;
        return await createOnce(this.#parts, { ownerId, key: idempotencyKey, body: what, id, make, made: (first) => processes.get(first) });
      },
      list: async ({ signal } = {}) => await (await open(signal)).list(),
      get: async (id, { signal } = {}) => await (await open(signal)).get(id),
      output: (id, options = {}) => heard(open, id, options),
      write: async (id, bytes, options = {}) => await (await open(options.signal)).write(id, bytes, options),
      signal: async (id, name, options = {}) => await (await open(options.signal)).signal(id, name, options),
      resize: async (id, size, { signal } = {}) => await (await open(signal)).resize(id, size),
      wait: async (id, options = {}) => await (await open(options.signal)).wait(id, options),
      stop: async (id, options = {}) => await (await open(options.signal)).stop(id, options),
    };
  }

  contexts(token: Token, sandboxId: string): ContextCalls {
    const open = async (signal?: AbortSignal): Promise<SandboxContexts> => {
      demandWanted(signal);
      return (await this.#sandboxes.open(token, sandboxId)).contexts;
    };
    return {
      create: async (body = {}, { idempotencyKey, signal } = {}) => {
        const contexts = await open(signal);
        const id = `${ID_PREFIX.context}${randomText(ID_BODY_LENGTH)}`;
        const make = () => contexts.create({ ...body, id });
        const what = { sandboxId, context: body };
        const { ownerId } = token;
        return await createOnce(this.#parts, { ownerId, key: idempotencyKey, body: what, id, make, made: (first) => contexts.get(first) });
      },
      list: async ({ signal } = {}) => await (await open(signal)).list(),
      get: async (id, { signal } = {}) => await (await open(signal)).get(id),
      run: async (id, request) => await (await open(request.signal)).run(id, request),
      runAlone: async (request) => await (await open(request.signal)).runAlone(request),
      interrupt: async (id, { signal } = {}) => await (await open(signal)).interrupt(id),
      restart: async (id, { signal } = {}) => await (await open(signal)).restart(id),
      delete: async (id, { signal } = {}) => await (await open(signal)).delete(id),
    };
  }

  shells(token: Token, sandboxId: string): ShellCalls {
    const open = async (signal?: AbortSignal): Promise<SandboxShells> => {
      demandWanted(signal);
      return (await this.#sandboxes.open(token, sandboxId)).shells;
    };
    return {
      open: async (body = {}, { idempotencyKey, signal } = {}) => {
        const shells = await open(signal);
        const id = `${ID_PREFIX.shell}${randomText(ID_BODY_LENGTH)}`;
        const make = () => shells.open({ ...body, id });
        const what = { sandboxId, shell: body };
        const { ownerId } = token;
        return await createOnce(this.#parts, { ownerId, key: idempotencyKey, body: what, id, make, made: (first) => shells.get(first) });
      },
      list: async ({ signal } = {}) => await (await open(signal)).list(),
      get: async (id, { signal } = {}) => await (await open(signal)).get(id),
      run: async (id, request) => await (await open(request.signal)).run(id, request),
      interrupt: async (id, { signal } = {}) => await (await open(signal)).interrupt(id),
      close: async (id, { signal } = {}) => await (await open(signal)).close(id),
    };
  }
}

async function* heard(
  open: (signal?: AbortSignal) => Promise<SandboxProcesses>,
  id: string,
  options: OutputOptions & CallOptions,
): AsyncGenerator<ProcessOutput> {
  yield* (await open(options.signal)).output(id, options);
}
