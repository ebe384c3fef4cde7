// Says of each change whether a commit may apply it, and if not, why, in words for the person who commits. Pure.
// It judges by the policy anew: what the kernel engine could not deny by name is denied here. Nothing of it is ever told inside.
// Invariant: what is not expressly allowed is refused: each change is `write` by its own path, an ordinary file, directory or link,
// and leaves in place whatever its sandbox could not see or not write.

import type { EntryKind, Permission } from "../api/policy.ts";
import type { Refusal } from "../api/sandbox.ts";
import { printable } from "../policy/bytes.ts";
import type { CompiledPolicy } from "../policy/compile.ts";
import type { DeltaChange, DeltaChanges } from "./changes.ts";
import { STAGING_PREFIX } from "./codebase.ts";

export interface Judgement {
  readonly refused: ReadonlyMap<DeltaChange, string>;
  /** Changes of metadata alone that the policy does not let through: left out, they stop nothing. */
  readonly dropped: ReadonlyMap<DeltaChange, string>;
  /** Refusals that belong to no single change. */
  readonly others: readonly Refusal[];
}

const SETID_BITS = 0o6000;

export function judge({ changes, remade }: Pick<DeltaChanges, "changes" | "remade">, policy: CompiledPolicy): Judgement {
  const refused = new Map<DeltaChange, string>();
  const dropped = new Map<DeltaChange, string>();
  for (const change of changes) {
    const reason = reasonAgainst(change, policy);
    if (reason === undefined) continue;
    if (change.kind === "mode" && !isReserved(change.path)) dropped.set(change, `change of mode left out: ${reason}`);
    else refused.set(change, reason);
  }
  const others = remade.map(({ path, holds }) => ({
    path: printable(path),
    reason: `the directory was removed and made again, but holds ${holding(holds)}; the codebase keeps it as it is`,
  }));
  return { refused, dropped, others };
}

function reasonAgainst(change: DeltaChange, policy: CompiledPolicy): string | undefined {
  const { path, before, after, from, fromEntry } = change;
  if (isReserved(path) || (from !== undefined && isReserved(from))) return `names that begin with ${STAGING_PREFIX} belong to Corral`;
  const byPolicy =
    (after === undefined ? undefined : below(policy, path, after.kind)) ??
    (before === undefined ? undefined : below(policy, path, before.kind)) ??
    (from === undefined || fromEntry === undefined ? undefined : below(policy, from, fromEntry.kind));
  if (byPolicy !== undefined) return byPolicy;
  return againstOrigin(change, policy) ?? (after === undefined ? undefined : againstEntry(change)) ?? againstHolding(change);
}

function isReserved(path: string): boolean {
  return path.startsWith(`/${STAGING_PREFIX}`);
}

function below(policy: CompiledPolicy, path: string, kind: EntryKind): string | undefined {
  const { permission, ruleIndex } = policy.verdict(path, kind);
  if (permission === "write") return undefined;
  const rule = ruleIndex === undefined ? undefined : policy.policy.rules[ruleIndex];
  const because = rule === undefined ? "no rule opens it" : `rule \`${rule.permission} ${rule.pattern}\``;
  return `the policy ${WORDS[permission]} ${printable(path)} (${because})`;
}

const WORDS: Readonly<Record<Exclude<Permission, "write">, string>> = {
  none: "hides",
  view: "gives no more than `view` on",
  read: "gives no more than `read` on",
};

/** A moved entry carries content along: what its sandbox could not have moved must not come to lie elsewhere. */
function againstOrigin({ path, after }: DeltaChange, policy: CompiledPolicy): string | undefined {
  const source = after?.source;
  if (source?.root !== "base" || source.path === path) return undefined;
  const reason = below(policy, source.path, after?.moved?.kind ?? "file");
  return reason === undefined ? undefined : `it was moved here, and ${reason}`;
}

function againstEntry({ path, type, before, after }: DeltaChange): string | undefined {
  if (after === undefined) return undefined;
  if (before?.kind === "other") return "it would replace a FIFO, socket or device of the codebase";
  if (type === "other") return "it is a FIFO, socket or device";
  const old = before?.mode ?? after.moved?.mode ?? 0;
  // Directories inherit setgid from the one above; a result never gets either bit.
  if (type === "file" && (after.mode & SETID_BITS & ~old) !== 0) return "it has a setuid or setgid bit";
  if (after.capability) return "it has file capabilities";
  return type === "link" ? againstTarget(path, after.target) : undefined;
}

/** SAFETY: a link that leads out of the codebase would let the next program that follows it read or write the host. */
function againstTarget(path: string, target: string): string | undefined {
  if (target.startsWith("/")) return `the link leads out of the codebase: ${printable(target)} is absolute`;
  let depth = path.split("/").length - 2;
  let down = false;
  for (const name of target.split("/")) {
    if (name === "" || name === ".") continue;
    if (name !== "..") {
      down = true;
      continue;
    }
    // After a name the way up depends on whether that name is a link itself; nobody needs such a spelling.
    if (down) return `the link's target ${printable(target)} goes down and up again, so where it leads cannot be told`;
    depth -= 1;
    if (depth < 0) return `the link leads out of the codebase: ${printable(target)}`;
  }
  return undefined;
}

function againstHolding({ holds, after }: DeltaChange): string | undefined {
  if (holds === undefined) return undefined;
  return `the directory cannot be ${after === undefined ? "removed" : "replaced"}: it holds ${holding(holds)}; the codebase keeps it`;
}

function holding({ path, hidden }: { readonly path: string; readonly hidden: boolean }): string {
  return hidden ? `${printable(path)}, which the policy hides from the sandbox` : `${printable(path)}, which the sandbox may not write`;
}
