// A sandbox that is started before anybody asked for it: namespaces, cgroup, root and PID 1 stand, nothing has run in it, and nothing of an
// owner is in it. Not when one is started: that is pool.ts's. Invariant: it has a journal from its first moment, without the line that
// says it is whole, so whoever finds it later ends it; it is given away once, or ended.

import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import type { SandboxLimits, StoredRoot } from "../api/sandbox.ts";
import { randomText } from "../base/random-text.ts";
import type { Container } from "../runtime/runtime.ts";
import type { Workshop } from "./workshop.ts";
import { removeJournal, writeJournal } from "./journal.ts";
import { type HeldLimits, heldLimits } from "./limits.ts";
import type { TemplatePlan } from "./template.ts";

/** What can be known before anybody asks. */
export interface WarmKind {
  /** Absent: this machine's programs. */
  readonly template?: StoredRoot;
  readonly limits?: SandboxLimits;
}

export interface Warm {
  readonly id: string;
  readonly kind: string;
  readonly container: Container;
  readonly plan: TemplatePlan;
  readonly journalFile: string;
  readonly startedMs: number;
}

/** A codebase inside of what the template shows changes the plan, and then nothing that was started ahead fits. */
export function kindOf({ runtime }: Workshop, { mounts, env, hostname }: TemplatePlan, limits: HeldLimits): string {
  const { memoryBytes, cpus, pids, openFiles } = limits;
  // What is random in each sandbox's own files is no difference.
  const lasting = mounts.filter(({ kind }) => kind !== "file" && kind !== "proc");
  return JSON.stringify([runtime.name, lasting, env, hostname, memoryBytes, cpus, pids, openFiles]);
}

export async function startWarm(shop: Workshop, { template, limits: asked }: WarmKind): Promise<Warm> {
  const limits = heldLimits(asked);
  const { memoryBytes, cpus, pids, openFiles } = limits;
  const id = `${ID_PREFIX.sandbox}${randomText(ID_BODY_LENGTH)}`;
  const createdAt = new Date(shop.clock.wallMs()).toISOString();
  const maker = shop.runtime.keeper;
  const journalFile = writeJournal(shop.data.journal, { version: 2, id, maker, runtime: shop.runtime.name, createdAt, delta: "ephemeral" });
  let plan: TemplatePlan | undefined;
  try {
    plan = await planOf(shop, { template, codebaseDir: shop.data.empty, memoryBytes });
    const container = await shop.runtime.create({
      id,
      mounts: plan.mounts,
      hostname: plan.hostname,
      limits: { memoryBytes, cpus, pids, openFiles },
      env: plan.env,
      journalFile,
      weaken: shop.weaken,
    });
    return { id, kind: kindOf(shop, plan, limits), container, plan, journalFile, startedMs: shop.clock.monotonicMs() };
  } catch (error) {
    plan?.hold?.release();
    await removeJournal(shop.data.journal, id);
    throw error;
  }
}

/** The journal goes last. */
export async function endWarm({ data }: Workshop, { id, container, plan }: Warm): Promise<void> {
  await container.destroy([], "nobody asked for it");
  plan.hold?.release();
  await removeJournal(data.journal, id);
}

interface PlanRequest {
  readonly template: StoredRoot | undefined;
  readonly codebaseDir: string;
  readonly memoryBytes: number;
}

export async function planOf(shop: Workshop, { template, codebaseDir, memoryBytes }: PlanRequest): Promise<TemplatePlan> {
  if (template === undefined) return shop.template.plan({ codebaseDir, memoryBytes });
  if (shop.stored === undefined) throw new CorralError("template_not_found", "this process has no stored templates");
  return await shop.templates.plan(shop.stored.tree(template), memoryBytes);
}
