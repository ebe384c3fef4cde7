// Which engine a policy needs: policy.md's rule for `engine: "auto"`, as data. It does not know what the machine has.
// Invariant: "kernel" is said only when no name that appears later could be writable for the policy but not for the kernel engine.

import type { Policy } from "../api/policy.ts";

export interface EngineNeed {
  readonly engine: "kernel" | "fuse";
  readonly why: string;
}

export function engineNeeds(policy: Policy): EngineNeed {
  if (policy.live === true) return { engine: "fuse", why: "the policy asks to be changed while sandboxes run (live)" };
  if (policy.audit === true) return { engine: "fuse", why: "the policy asks for a record of each refusal (audit)" };
  return { engine: "kernel", why: "no rule grants by name inside a directory of a lower level" };
}
