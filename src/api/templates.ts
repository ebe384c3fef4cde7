// Templates: root file systems that sandboxes are made from, with what they get unless they ask otherwise. Types alone.
// Invariant: a root never changes; `host` is always there, and is this machine's programs.

import type { CallOptions, PageOptions } from "./calls.ts";
import type { Policy } from "./policy.ts";
import type { SandboxLimits } from "./sandbox.ts";
import type { ListOf } from "./server.ts";

/** The template of sandboxes that name none. */
export const HOST_TEMPLATE = "host";

export const DEBOOTSTRAP_VARIANTS = ["minbase", "buildd"] as const;

export interface DebootstrapSource {
  /** Of the mirror that the server's machine is configured with, e.g. `bookworm`. */
  readonly suite: string;
  /** Default `minbase`. */
  readonly variant?: (typeof DEBOOTSTRAP_VARIANTS)[number];
  /** Packages beside those of the variant. */
  readonly include?: readonly string[];
}

/**
 * A version of a codebase of the same owner; a directory of the server's machine, or packages from its mirror (both a key of scope
 * `admin`). Absent in a create: the root comes by `importTar`.
 */
export type TemplateSource =
  | { readonly codebase: { readonly id: string; readonly version?: number } }
  | { readonly dir: string }
  | { readonly debootstrap: DebootstrapSource };

export interface TemplateDefaults {
  readonly limits?: SandboxLimits;
  /** Name of a preset, or rules. */
  readonly policy?: string | Policy;
  readonly env?: Readonly<Record<string, string>>;
}

export interface CreateTemplateBody {
  readonly name: string;
  readonly from?: TemplateSource;
  readonly defaults?: TemplateDefaults;
  /** Every owner may use it; asks for a key of scope `admin`. */
  readonly shared?: boolean;
}

export interface TemplateResource {
  readonly id: string;
  /** `null`: `host`. */
  readonly ownerId: string | null;
  readonly name: string;
  readonly shared: boolean;
  /** `host`, `empty`, `tar`, or as it was asked for. */
  readonly source: "host" | "empty" | "tar" | TemplateSource;
  readonly defaults: TemplateDefaults;
  /** `empty`: it waits for a tar. */
  readonly state: "empty" | "building" | "ready" | "failed";
  /** Of one that is being built: what is done now, and how many steps were before. */
  readonly progress?: { readonly step: string; readonly steps: number };
  /** Why it failed. */
  readonly reason?: string;
  readonly bytes: number;
  readonly files: number;
  readonly createdAt: string;
}

export interface TemplateCalls {
  /** Packages are installed while the answer is there already: ask `get` for its progress. */
  create(body: CreateTemplateBody, options?: CallOptions & { readonly idempotencyKey?: string }): Promise<TemplateResource>;
  get(id: string, options?: CallOptions): Promise<TemplateResource>;
  /** The owner's and shared ones, newest first, `host` last. */
  list(options?: PageOptions): Promise<ListOf<TemplateResource>>;
  /** The root of an empty one: plain, gzip or zstd, e.g. of `docker export`. */
  importTar(id: string, tar: Uint8Array, options?: CallOptions): Promise<TemplateResource>;
  /** Refused (`template_state`) while a sandbox stands on it. */
  delete(id: string, options?: CallOptions): Promise<void>;
}
