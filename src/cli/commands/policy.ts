// `corral policy explain|check|lint`: what a policy says about a path or a tree, and what is wrong with a policy file.
// Invariant: lint ends with 1 exactly when the file gives no policy; warnings do not fail.

import type { Corral } from "../../api/corral.ts";
import type { Policy, PolicyProblem } from "../../api/policy.ts";
import { EXIT_FAILED, EXIT_OK } from "../exit-codes.ts";
import { inert, inertLines } from "../../base/inert.ts";
import { print } from "../streams.ts";

export interface PolicyOptions {
  readonly policy: string;
  readonly allowWrite?: readonly string[];
  readonly hide?: readonly string[];
  readonly dir?: string;
  readonly json?: boolean;
}

export async function explain(corral: Corral, path: string, options: PolicyOptions): Promise<number> {
  const policy = await loaded(corral, options, options.dir);
  const text = await corral.policies.explain(policy, path.startsWith("/") ? path : `/${path}`, options.dir);
  await print(withNewline(inertLines(text)));
  return EXIT_OK;
}

export async function check(corral: Corral, dir: string, options: PolicyOptions): Promise<number> {
  const policy = await loaded(corral, options, dir);
  await print(withNewline(inertLines(await corral.policies.check(policy, dir))));
  return EXIT_OK;
}

export async function lint(corral: Corral, file: string, options: Pick<PolicyOptions, "json">): Promise<number> {
  const problems = await corral.policies.lint(file);
  if (options.json === true) await print(`${JSON.stringify(problems)}\n`);
  else if (problems.length === 0) await print(`${inert(file)}: no problems\n`);
  else await print(problems.map((problem) => `${problemLine(file, problem)}\n`).join(""));
  return problems.some(({ severity }) => severity === "error") ? EXIT_FAILED : EXIT_OK;
}

/** As compilers write it, so that editors find the place. */
function problemLine(file: string, { line, column, severity, message }: PolicyProblem): string {
  return `${inert(file)}:${line}:${column}: ${severity}: ${inert(message)}`;
}

async function loaded(corral: Corral, options: PolicyOptions, dir: string | undefined): Promise<Policy> {
  const additions = { allowWrite: options.allowWrite ?? [], hide: options.hide ?? [], ...(dir === undefined ? {} : { codebaseDir: dir }) };
  return await corral.policies.load(options.policy, additions);
}

function withNewline(text: string): string {
  return text.endsWith("\n") ? text : `${text}\n`;
}
