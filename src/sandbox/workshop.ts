// What sandboxes of one runtime are made with. A type alone.

import type { KernelView } from "../view/kernel.ts";
import type { StoredCodebases } from "../view/stored.ts";
import type { Grounds } from "./present.ts";
import type { HostTemplate } from "./template.ts";
import type { StoredTemplates } from "./template-stored.ts";

export interface Workshop extends Grounds {
  /** Sandboxes outlive this process: their journal tells the next one how to go on. */
  readonly lasting: boolean;
  readonly view: KernelView;
  readonly template: HostTemplate;
  readonly templates: StoredTemplates;
  /** Absent: only directories can be a base. */
  readonly stored?: StoredCodebases;
  /** Containment steps to leave out; empty outside the security suite. */
  readonly weaken: readonly number[];
}
