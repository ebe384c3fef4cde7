// What a sandbox is to stand on: the codebase and the template, or the snapshot, that a request names, looked up for whoever asks, with the
// template's defaults under what was asked for. Invariant: what it found is used in the same transaction that adds the sandbox's row, so
// nobody removes it in between; a name from the wire never reads a file of this machine.

import { realpathSync } from "node:fs";
import { resolve } from "node:path";
import type { SnapshotOverrides } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import type { CreateRequest, Sandbox } from "../api/sandbox.ts";
import type { CreateSandboxBody } from "../api/server.ts";
import { HOST_TEMPLATE } from "../api/templates.ts";
import type { StoreTables } from "../store/store.ts";
import type { Token } from "../store/tokens.ts";
import type { Codebases } from "./codebases.ts";
import type { StartSeen } from "./meter.ts";
import type { ServiceParts } from "./parts.ts";
import { standingOnFiles } from "./sandbox-rows.ts";
import { type OriginFiles, originOf, snapshotNotFound } from "./snapshot-rows.ts";
import { presetName, type TemplateBase, type Templates } from "./templates.ts";

export interface Standing {
  readonly source: StartSeen["source"];
  /** Makes it, once its row is there. */
  readonly make: () => Promise<Sandbox>;
  /** What others like it can be started ahead with; absent: they cannot. */
  readonly ahead?: Pick<CreateRequest, "template" | "limits">;
  /** The body with the versions and the policy that it means. */
  readonly body: CreateSandboxBody;
  /** In the transaction of the sandbox's row. Throws when what it stands on was removed. */
  use(tables: StoreTables): Promise<void>;
}

export class Stands {
  readonly #parts: ServiceParts;
  readonly #codebases: Codebases;
  readonly #templates: Templates;

  constructor(parts: ServiceParts, codebases: Codebases, templates: Templates) {
    this.#parts = parts;
    this.#codebases = codebases;
    this.#templates = templates;
  }

  /** `given`: over these files, whoever asks. */
  async resolve(token: Token, id: string, body: CreateSandboxBody, given?: OriginFiles): Promise<Standing> {
    const files = given ?? (await originOf(this.#parts, token, body));
    return files === undefined ? await this.#overCodebase(token, id, body) : this.#overFiles(id, body, files);
  }

  #overFiles(id: string, asked: CreateSandboxBody, { snapshotId, request, listed }: OriginFiles): Standing {
    const { corral } = this.#parts;
    const body = standingOnFiles(asked, request);
    const { runtime, limits, env, delta } = asked;
    const overrides: SnapshotOverrides = {
      id,
      ...(runtime === undefined ? {} : { runtime }),
      ...(limits === undefined ? {} : { limits }),
      ...(env === undefined ? {} : { env }),
      ...(delta === undefined ? {} : { delta }),
      network: body.network ?? "none",
    };
    return {
      source: "snapshot",
      body,
      make: () => corral.snapshots.create(snapshotId, overrides),
      use: async (tables) => {
        const { codebase: { id: codebaseId, version = 0 } = {}, template = HOST_TEMPLATE } = body;
        await use(tables, { sandboxId: id, codebase: codebaseId === undefined ? undefined : { id: codebaseId, version }, template });
        if (listed && !(await tables.snapshots.use({ sandboxId: id, snapshotId }))) throw snapshotNotFound(snapshotId);
      },
    };
  }

  async #overCodebase(token: Token, id: string, body: CreateSandboxBody): Promise<Standing> {
    const { corral } = this.#parts;
    const stored = body.codebase === undefined ? undefined : await this.#codebases.base(token, body.codebase);
    const template = body.template === undefined ? undefined : await this.#templates.base(token, body.template);
    if (template !== undefined) demandApart(template, body);
    const policy = policyOf(body, template?.defaults.policy);
    const request = {
      ...(await this.#request(id, { ...body, policy }, template)),
      ...(stored === undefined ? {} : { stored }),
      ...(template === undefined ? {} : { template: template.root }),
    };
    const codebase = stored === undefined ? undefined : { id: stored.codebaseId, version: stored.version };
    return {
      source: "cold",
      body: { ...body, policy, ...(codebase === undefined ? {} : { codebase }) },
      make: () => corral.create(request),
      ahead: request,
      use: (tables) => use(tables, { sandboxId: id, codebase, template: template?.id ?? HOST_TEMPLATE }),
    };
  }

  async #request(id: string, body: CreateSandboxBody & Named, template: TemplateBase | undefined): Promise<CreateRequest> {
    const { codebaseDir, policy, runtime, delta, network } = body;
    const { policy: _, ...defaults } = template?.defaults ?? {};
    const [limits, env] = [
      { ...defaults.limits, ...body.limits },
      { ...defaults.env, ...body.env },
    ];
    return {
      id,
      policy: typeof policy === "string" ? await this.#parts.corral.policies.load(presetName(policy)) : policy,
      ...(codebaseDir === undefined ? {} : { codebaseDir }),
      ...(runtime === undefined ? {} : { runtime }),
      ...(Object.keys(limits).length === 0 ? {} : { limits }),
      ...(Object.keys(env).length === 0 ? {} : { env }),
      ...(delta === undefined ? {} : { delta }),
      ...(network === undefined ? {} : { network }),
    };
  }
}

/** A policy by its name, or its rules. */
interface Named {
  readonly policy: NonNullable<CreateSandboxBody["policy"]>;
}

/** What holds where a body names none. `usual`: of its template. */
export function policyOf({ codebaseDir, codebase, policy }: CreateSandboxBody, usual?: Named["policy"]): Named["policy"] {
  return policy ?? usual ?? ((codebaseDir ?? codebase) === undefined ? "full-access" : "agent-safe");
}

/** SAFETY: no policy hides anything of a root, so one made of the code that the sandbox stands on would show what its policy hides. */
function demandApart({ id, source }: TemplateBase, { codebaseDir, codebase }: CreateSandboxBody): void {
  const from = source as Partial<{ readonly dir: string; readonly codebase: { readonly id: string } }>;
  const isSame = codebase !== undefined && from.codebase?.id === codebase.id;
  if (isSame || (codebaseDir !== undefined && from.dir !== undefined && overlap(real(from.dir), real(codebaseDir))))
    throw new CorralError(
      "request_invalid",
      `template: ${id} was made of this codebase and would show what the policy hides; take another`,
    );
}

function overlap(one: string, other: string): boolean {
  return `${one}/`.startsWith(`${other}/`) || `${other}/`.startsWith(`${one}/`) || one === "/" || other === "/";
}

function real(dir: string): string {
  try {
    return realpathSync(dir);
  } catch {
    return resolve(dir); // it is gone; a codebase that is not there is told when it is looked for
  }
}

interface Uses {
  readonly sandboxId: string;
  readonly codebase: { readonly id: string; readonly version: number } | undefined;
  readonly template: string;
}

async function use({ codebases, templates }: StoreTables, { sandboxId, codebase, template }: Uses): Promise<void> {
  if (codebase !== undefined && !(await codebases.use({ sandboxId, codebaseId: codebase.id, number: codebase.version })))
    throw new CorralError("codebase_not_found", `the codebase ${codebase.id} was deleted`);
  if (template !== HOST_TEMPLATE && !(await templates.use({ sandboxId, templateId: template })))
    throw new CorralError("template_not_found", `the template ${template} was deleted`);
}
