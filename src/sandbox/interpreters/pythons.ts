// The Python interpreters of one sandbox: forked from one inside that has imported the common modules and runs no code of anybody; where that
// does not work, started from nothing, which is told. Not what an interpreter does: interpreter.ts.
// Invariant: what is forked from runs no cell; one for each PATH, because that decides which python3 it is; it goes when nobody asked for long.

import { errorCode } from "../../api/errors.ts";
import { FORKER_IDLE_MS } from "../../api/limits.ts";
import type { KeptContext } from "../kept-set.ts";
import { Interpreter } from "./interpreter.ts";
import { forkedProgram, pythonProgram } from "./programs.ts";

export interface PythonPlace {
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

interface Forker {
  readonly interpreter: Promise<Interpreter>;
  timer: NodeJS.Timeout | undefined;
}

export class Pythons {
  readonly #kept: KeptContext;
  readonly #modules: readonly string[];
  /** By the PATH that was asked for; empty: the sandbox's own. */
  readonly #forkers = new Map<string, Forker>();

  constructor(kept: KeptContext, modules: readonly string[]) {
    this.#kept = kept;
    this.#modules = modules;
  }

  /** Throws `context_unavailable`, `exec_failed`, `sandbox_lost`. */
  async begin(place: PythonPlace): Promise<Interpreter> {
    const { container, guard } = this.#kept;
    const forker = await this.#forker(place.env["PATH"] ?? "");
    const guest = forker.guest;
    try {
      if (guest !== undefined) return await Interpreter.begin({ container, guard, ...place, program: forkedProgram(guest, place) });
    } catch (error) {
      if (errorCode(error) !== "context_unavailable") throw error;
      // One that does not fork is no use to the next either.
      forker.kill("it did not fork");
      return await this.#cold(place, (error as Error).message);
    }
    return await this.#cold(place, "what it is forked from has ended");
  }

  async #cold(place: PythonPlace, reason: string): Promise<Interpreter> {
    const { container, guard } = this.#kept;
    const program = pythonProgram({ modules: this.#modules, forks: false, reason });
    return await Interpreter.begin({ container, guard, ...place, program });
  }

  #forker(path: string): Promise<Interpreter> {
    const forker = this.#forkers.get(path) ?? this.#make(path);
    clearTimeout(forker.timer);
    forker.timer = setTimeout(() => {
      void forker.interpreter.then((interpreter) => interpreter.kill("nobody asked for it"));
    }, FORKER_IDLE_MS).unref();
    return forker.interpreter;
  }

  #make(path: string): Forker {
    const { container, guard } = this.#kept;
    const program = pythonProgram({ modules: this.#modules, forks: true });
    const env: Record<string, string> = path === "" ? {} : { PATH: path };
    const interpreter = Interpreter.begin({ container, guard, env, cwd: "/", program });
    const forker: Forker = { interpreter, timer: undefined };
    this.#forkers.set(path, forker);
    const over = (): void => {
      clearTimeout(forker.timer);
      if (this.#forkers.get(path) === forker) this.#forkers.delete(path);
    };
    interpreter.then((made) => made.ended.then(over), over);
    return forker;
  }
}
