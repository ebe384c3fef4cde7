// The contexts of one sandbox by their ids, and code that runs without one. Not what a context is: context.ts.
// Invariant: one that is listed has had an interpreter; no more than MAX_CONTEXTS are there, and code without one counts while it runs.

import {
  type CodeAnswer,
  type ContextInfo,
  type ContextLanguage,
  type CreateContextBody,
  PYTHON_MODULES,
  type RunAlone,
  type RunCode,
  type SandboxContexts,
} from "../../api/contexts.ts";
import { CorralError } from "../../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../../api/ids.ts";
import { MAX_CODE_BYTES, MAX_CONTEXTS } from "../../api/limits.ts";
import { randomText } from "../../base/random-text.ts";
import { checkExec } from "../exec-request.ts";
import type { KeptContext } from "../kept-set.ts";
import { Context, type Runner } from "./context.ts";
import { BashRunner } from "./bash-runner.ts";
import { Interpreter } from "./interpreter.ts";
import { ResultCache } from "./result-cache.ts";
import { nodeProgram } from "./programs.ts";
import { Pythons } from "./pythons.ts";
import type { Shells } from "../shells.ts";

const DEFAULT_CWD = "/workspace";

type Place = Required<Omit<CreateContextBody, "language">> & { readonly language: ContextLanguage };

export class Contexts implements SandboxContexts {
  readonly #kept: KeptContext;
  readonly #pythons: Pythons;
  readonly #shells: Shells;
  readonly #alone = new ResultCache();
  readonly #contexts = new Map<string, Context>();
  /** Contexts, those that are being created, and code without one. */
  #places = 0;

  constructor(kept: KeptContext, shells: Shells, modules: readonly string[] = PYTHON_MODULES) {
    this.#kept = kept;
    this.#shells = shells;
    this.#pythons = new Pythons(kept, modules);
  }

  async create({ id: given, ...request }: CreateContextBody & { readonly id?: string } = {}): Promise<ContextInfo> {
    const place = this.#placeOf(request);
    const id = given ?? `${ID_PREFIX.context}${randomText(ID_BODY_LENGTH)}`;
    const context = await this.#begin(id, place);
    this.#contexts.set(id, context);
    return context.info();
  }

  list(): Promise<{ readonly items: readonly ContextInfo[] }> {
    return Promise.resolve({ items: [...this.#contexts.values()].map((context) => context.info()) });
  }

  async get(id: string): Promise<ContextInfo> {
    return await Promise.resolve(this.#find(id).info());
  }

  async run(id: string, request: RunCode): Promise<CodeAnswer> {
    demandCode(request);
    const context = this.#find(id);
    return await context.cache.answer(request, (asked) => context.run({ ...asked, language: context.language }), false);
  }

  async runAlone(request: RunAlone): Promise<CodeAnswer> {
    demandCode(request);
    return await this.#alone.answer(request, (asked) => this.#runAlone(asked), true);
  }

  async #runAlone({ language, cwd, ...request }: RunAlone): Promise<CodeAnswer> {
    const place = this.#placeOf({ ...(language === undefined ? {} : { language }), ...(cwd === undefined ? {} : { cwd }) });
    const context = await this.#begin("alone", place);
    try {
      return await context.run({ ...request, language: place.language });
    } finally {
      await context.close("the call was over");
      this.#places -= 1;
    }
  }

  async interrupt(id: string): Promise<void> {
    await Promise.resolve(this.#find(id).interrupt());
  }

  async restart(id: string): Promise<ContextInfo> {
    const context = this.#find(id);
    await context.restart();
    return context.info();
  }

  async delete(id: string): Promise<void> {
    const context = this.#contexts.get(id);
    if (context === undefined) return;
    this.#contexts.delete(id);
    await context.close();
    this.#places -= 1;
  }

  #placeOf({ language = "python", env = {}, cwd = DEFAULT_CWD }: CreateContextBody): Place {
    this.#kept.demand();
    const problem = checkExec({ command: [language], env, cwd });
    if (problem !== undefined) throw new CorralError("request_invalid", problem);
    return { language, env, cwd };
  }

  /** Takes its place; a caller that throws it away gives that back. */
  async #begin(id: string, place: Place): Promise<Context> {
    if (this.#places >= MAX_CONTEXTS)
      throw new CorralError("limit_reached", `the sandbox has ${MAX_CONTEXTS} contexts already, which is the limit; delete one first`);
    this.#places += 1;
    const { clock } = this.#kept;
    const { language, cwd } = place;
    const context = new Context({ id, language, cwd, clock, createdAt: clock.wallMs(), begin: () => this.#runner(place) });
    try {
      await context.begin();
    } catch (error) {
      this.#places -= 1;
      throw error;
    }
    return context;
  }

  async #runner({ language, env, cwd }: Place): Promise<Runner> {
    const { container, guard, demand } = this.#kept;
    demand();
    if (language === "bash") return await BashRunner.begin(this.#shells, { env, cwd });
    if (language !== "python") return await Interpreter.begin({ container, guard, env, cwd, program: nodeProgram() });
    return await this.#pythons.begin({ env, cwd });
  }

  #find(id: string): Context {
    const context = this.#contexts.get(id);
    if (context === undefined)
      throw new CorralError(
        "context_not_found",
        `there is no context ${id}: it never was, was deleted, or ended with the server or the processes that it lived in`,
      );
    return context;
  }
}

function demandCode({ code, input = "" }: RunCode): void {
  if (Buffer.byteLength(code) + Buffer.byteLength(input) > MAX_CODE_BYTES)
    throw new CorralError("request_too_large", `code and input: more than ${MAX_CODE_BYTES} bytes together; write a file and read that`);
}
