// What crosses our own wire (`/v1`) beside the sandbox's own nouns: resources, lists, tokens, and the frames of an exec stream.
// Types alone. Invariant: JSON in lowerCamelCase, times in ISO 8601, lists `{items, next?}`.

export type { ListOf } from "./calls.ts";

import type { ErrorBody } from "./errors.ts";
import type { NetworkResource, NetworkPolicy } from "./network.ts";
import type { Policy } from "./policy.ts";
import type { CreateRequest, ExecResult, RuntimeName, SandboxInfo, SandboxLimits } from "./sandbox.ts";

export interface CreateSandboxBody {
  /** Directory of the server's machine; asks for a key of scope `admin`. Absent: an empty codebase. */
  readonly codebaseDir?: string;
  /** A stored codebase, in its current version or in another. */
  readonly codebase?: { readonly id: string; readonly version?: number };
  /** Files of a sandbox at one moment, with its codebase, template, policy, limits and environment; what else is named replaces its own. */
  readonly snapshot?: string;
  /** Root file system; default `host`, this machine's programs. */
  readonly template?: string;
  /** Name of a preset, or rules. Default: that of the template, else `agent-safe` over a codebase, `full-access` without one. */
  readonly policy?: string | Policy;
  readonly runtime?: RuntimeName;
  readonly limits?: SandboxLimits;
  readonly env?: Readonly<Record<string, string>>;
  readonly metadata?: Readonly<Record<string, string>>;
  /** `ephemeral` (default): the delta dies with the sandbox. `keep`: it stays until it is committed or discarded. */
  readonly delta?: CreateRequest["delta"];
  /** Life from now, ms; `null` never ends by itself. */
  readonly timeoutMs?: number | null;
  /** Ports that everybody may reach who knows the address; every other port takes a key or a ticket. */
  readonly publicPorts?: readonly number[];
  /** What the end of its life does. Default `kill`; `pause` keeps its processes where the machine can, else its delta. */
  readonly onTimeout?: "kill" | "pause";
  /** What it may reach outside, within the operator's ceiling. Default `none`: nothing, and then it has no way out for all its life. */
  readonly network?: NetworkPolicy;
}

/** Opens one thing, once. */
export interface TicketAnswer {
  readonly ticket: string;
  readonly expiresInMs: number;
}

export interface PortTicket extends TicketAnswer {
  /** For a browser, where the server has a domain for sandboxes: opens the port and keeps it open for it for some hours. */
  readonly url?: string;
}

export interface PauseBody {
  /** Keep the processes, standing still (default); else they end and only files stay. */
  readonly memory?: boolean;
}

export interface ResumeBody {
  /** Life from now, ms; absent: that of its creation. */
  readonly timeoutMs?: number | null;
}

export interface SandboxResource {
  readonly id: string;
  readonly ownerId: string;
  readonly state: SandboxInfo["state"];
  /** Of a paused one: whether its processes are kept. */
  readonly memory?: boolean;
  /** Absent: `host`. */
  readonly template?: string;
  /** The stored codebase that it stands on. */
  readonly codebase?: { readonly id: string; readonly version: number };
  /** The snapshot that it was made from. */
  readonly snapshot?: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly publicPorts: readonly number[];
  /** Absent: none. `cut`: what the operator's ceiling takes away of it, by rule. */
  readonly network?: Pick<NetworkResource, "version" | "cut" | "viaProxy">;
  readonly createdAt: string;
  /** `null` never ends by itself. */
  readonly endAt: string | null;
  /** Absent until it was made. */
  readonly info?: Omit<SandboxInfo, "id" | "state" | "memory">;
  /** Why it failed. */
  readonly reason?: string;
}

/** What came of one create of a batch. */
export type BatchItem = { readonly sandbox: SandboxResource } | { readonly error: ErrorBody };

export interface ExecBody {
  readonly command: readonly string[] | string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Bytes for stdin, base64. */
  readonly stdin?: string;
  readonly timeoutMs?: number;
  readonly idleTimeoutMs?: number;
  readonly outputBytes?: number;
}

/**
 * Kinds of the frames of an exec or output stream: 1 byte kind, 4 bytes length (big-endian), payload. `gap`, JSON `{offset}`: output of a
 * process before that offset can no longer be read. `result`, JSON: a CodeResult of a call of code.
 */
export const EXEC_FRAME = { start: 1, stdout: 2, stderr: 3, end: 4, error: 5, gap: 6, result: 7 } as const;
export const EXEC_FRAME_HEADER_BYTES = 5;

/** Payload of `end`, JSON: output travels in its own frames. */
export type ExecEnd = Omit<ExecResult, "stdout" | "stderr">;

export interface WireError extends ErrorBody {
  readonly requestId: string;
  readonly retryAfterMs?: number;
}

export interface TokenResource {
  readonly id: string;
  readonly ownerId: string;
  readonly scope: "admin" | "user" | "sandbox";
  readonly sandboxId: string | null;
  readonly name: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
}

export interface IssuedToken extends TokenResource {
  /** The key itself; told once. */
  readonly secret: string;
}

export interface IssueTokenBody {
  readonly ownerId: string;
  readonly scope: "admin" | "user" | "sandbox";
  readonly sandboxId?: string;
  readonly name: string;
  /** Life from now, ms; absent: until it is revoked. */
  readonly expiresInMs?: number;
}
