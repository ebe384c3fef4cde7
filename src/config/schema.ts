// Every key of a server's configuration: its shape, its bounds, what holds when nobody says otherwise. The one place of keys.
// Not where they come from (read.ts). Invariant: a key stands here once, is read by some part, and test/e2e/config.test.ts shows that it does something.

import { z } from "zod";
import {
  ADDRESS_REQUESTS,
  ADDRESS_WINDOW_MS,
  DEFAULT_PORT,
  DRAIN_MS,
  GIT_MAX_BYTES,
  GIT_TIMEOUT_MS,
  HTTP_CONNECTIONS,
  HTTP_HEADERS_BYTES,
  HTTP_HEADERS_MS,
  HTTP_IDLE_MS,
  HTTP_REQUEST_MS,
  MAX_BODY_BYTES,
  MAX_CODEBASE_BYTES_PER_OWNER,
  MAX_CODEBASES_PER_OWNER,
  MAX_SANDBOXES_PER_OWNER,
  MAX_SNAPSHOT_BYTES_PER_OWNER,
  MAX_SNAPSHOTS_PER_OWNER,
  POOL_IDLE_MS,
  POOL_MAX,
  POOL_PER_TEMPLATE,
  PROXY_CONNECTIONS,
  PROXY_IDLE_MS,
  STORE_POOL_ACQUIRE_MS,
  STORE_POOL_MAX,
  STORE_POOL_MIN,
  STORE_POOL_RECYCLE_MS,
  STORE_SQLITE_CACHE_KIB,
  TOKEN_REQUESTS,
  TOKEN_WINDOW_MS,
} from "../api/limits.ts";
import { PYTHON_MODULES } from "../api/contexts.ts";
import { networkShape } from "./network-shape.ts";

const HOUR_MS = 60 * 60 * 1000;

const file = z.string().min(1).max(4_096);
const origin = z.string().regex(/^https?:\/\/[^/?#\s]{1,255}$/, "expected an origin such as https://app.example.com, without a path");
const count = z.int().min(1);

const listen = z.strictObject({
  host: z.string().min(1).max(255).default("127.0.0.1"),
  /** 0 takes one that is free. */
  port: z.int().min(0).max(65_535).default(DEFAULT_PORT),
});

const http = z.strictObject({
  /** Body of one request in JSON. */
  bodyBytes: count.max(1024 ** 3).default(MAX_BODY_BYTES),
  /** Open connections; more are closed at once. */
  connections: count.max(1_000_000).default(HTTP_CONNECTIONS),
  headersBytes: z
    .int()
    .min(1_024)
    .max(1024 ** 2)
    .default(HTTP_HEADERS_BYTES),
  /** Until the headers of a request are whole. */
  headersTimeoutMs: count.max(HOUR_MS).default(HTTP_HEADERS_MS),
  /** Until a request is whole. */
  requestTimeoutMs: count.max(24 * HOUR_MS).default(HTTP_REQUEST_MS),
  /** How long a connection may stay open between requests. */
  idleTimeoutMs: count.max(HOUR_MS).default(HTTP_IDLE_MS),
  /** Addresses or ranges of proxies whose `X-Forwarded-For` is believed. */
  trustedProxies: z
    .array(z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()]))
    .max(100)
    .default([]),
});

/** Requests in a window of time; `null` sets no limit. */
const rate = (requests: number, windowMs: number) =>
  z.strictObject({
    requests: count.max(1_000_000_000).nullable().default(requests),
    windowMs: z.int().min(100).max(HOUR_MS).default(windowMs),
  });

const store = z
  .strictObject({
    kind: z.enum(["sqlite", "postgres"]).default("sqlite"),
    url: z
      .string()
      .regex(/^postgres(ql)?:\/\//, "expected postgres://user@host/database")
      .max(4_096)
      .nullable()
      .default(null),
    pool: z
      .strictObject({
        min: z.int().min(0).max(1_000).default(STORE_POOL_MIN),
        max: count.max(1_000).default(STORE_POOL_MAX),
        acquireTimeoutMs: count.max(HOUR_MS).default(STORE_POOL_ACQUIRE_MS),
        recycleMs: z
          .int()
          .min(1_000)
          .max(24 * HOUR_MS)
          .default(STORE_POOL_RECYCLE_MS),
      })
      .refine(({ min, max }) => min <= max, "min is larger than max")
      .prefault({}),
    sqlite: z
      .strictObject({
        /** Readers and a writer at once; `false` for file systems without shared memory. */
        wal: z.boolean().default(true),
        /** `normal` may lose the last commits at a power cut, never at a kill. */
        synchronous: z.enum(["normal", "full"]).default("full"),
        cacheKiB: z
          .int()
          .min(64)
          .max(4 * 1024 ** 2)
          .default(STORE_SQLITE_CACHE_KIB),
      })
      .prefault({}),
  })
  .refine(({ kind, url }) => (kind === "postgres") === (url !== null), "kind postgres needs a url, and kind sqlite takes none");

export const serverConfig = z.strictObject({
  listen: listen.prefault({}),
  /** PEM files; both or none. */
  tls: z
    .strictObject({ certFile: file.nullable().default(null), keyFile: file.nullable().default(null) })
    .refine(({ certFile, keyFile }) => (certFile === null) === (keyFile === null), "certFile and keyFile go together")
    .prefault({}),
  /** Origins of web pages that may call. */
  origins: z.array(origin).max(100).default([]),
  http: http.prefault({}),
  store: store.prefault({}),
  /** Of each owner. */
  quotas: z
    .strictObject({
      sandboxes: count.max(1_000_000).default(MAX_SANDBOXES_PER_OWNER),
      codebases: count.max(1_000_000).default(MAX_CODEBASES_PER_OWNER),
      /** Content of all of an owner's codebases; equal files count once. */
      codebaseBytes: z.int().min(1).max(Number.MAX_SAFE_INTEGER).default(MAX_CODEBASE_BYTES_PER_OWNER),
      snapshots: count.max(1_000_000).default(MAX_SNAPSHOTS_PER_OWNER),
      /** When an owner's snapshots hold so much, no further one is taken; what several share counts for each of them. */
      snapshotBytes: z.int().min(1).max(Number.MAX_SAFE_INTEGER).default(MAX_SNAPSHOT_BYTES_PER_OWNER),
    })
    .prefault({}),
  mcp: z
    .strictObject({
      /** Names, beside those of the loopback and `listen.host`, that MCP clients may call this server by. */
      hosts: z.array(z.string().min(1).max(253).toLowerCase()).max(100).default([]),
      /** Offers clients to write what they changed into the codebase. */
      commit: z.boolean().default(false),
    })
    .prefault({}),
  proxy: z
    .strictObject({
      /** Where ports of sandboxes have hosts of their own: `https://sandboxes.example.com` means `https://3000-sb….sandboxes.example.com`. */
      origin: origin.nullable().default(null),
      /** Of one sandbox at once. */
      connections: count.max(100_000).default(PROXY_CONNECTIONS),
      /** How long one may be silent. */
      idleTimeoutMs: count.max(24 * HOUR_MS).default(PROXY_IDLE_MS),
    })
    .prefault({}),
  rateLimits: z
    .strictObject({
      perToken: rate(TOKEN_REQUESTS, TOKEN_WINDOW_MS).prefault({}),
      /** Of requests without a key that holds. */
      perAddress: rate(ADDRESS_REQUESTS, ADDRESS_WINDOW_MS).prefault({}),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]).default("info"),
      /** `auto`: pretty on a terminal, else JSON. */
      format: z.enum(["auto", "json", "pretty"]).default("auto"),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      host: z.string().min(1).max(255).default("127.0.0.1"),
      /** `null`: `/metrics` of the server itself, for keys of scope admin; else a port of its own that asks for no key. 0 takes a free one. */
      port: z.int().min(0).max(65_535).nullable().default(null),
    })
    .prefault({}),
  /** `mirror`: of Debian packages for templates; `null`: the first of apt's sources. */
  templates: z
    .strictObject({
      mirror: z
        .url({ protocol: /^(https?|file)$/ })
        .max(2_048)
        .nullable()
        .default(null),
    })
    .prefault({}),
  /** Repositories that codebases are imported from. */
  git: z
    .strictObject({
      protocols: z
        .array(z.enum(["https", "file"]))
        .max(2)
        .default(["https"]),
      /** Hosts that keys of scope user may name; keys of scope admin name any. */
      hosts: z
        .array(z.string().regex(/^[a-z0-9.-]{1,253}$/, "expected a host name in lower case"))
        .max(100)
        .default([]),
      /** Of what git stores for one fetch. */
      maxBytes: count.max(Number.MAX_SAFE_INTEGER).default(GIT_MAX_BYTES),
      timeoutMs: count.max(HOUR_MS).default(GIT_TIMEOUT_MS),
    })
    .prefault({}),
  /** `ceiling`: what no sandbox reaches beyond, whatever its rules say; by default public addresses alone. */
  network: z.strictObject({ ceiling: networkShape.default({ open: true }) }).prefault({}),
  /** Sandboxes that are started ahead. */
  pool: z
    .strictObject({
      /** Of each template that was asked for lately, at least; 0: none. */
      perTemplate: z.int().min(0).max(256).default(POOL_PER_TEMPLATE),
      /** Of all templates together. */
      max: z.int().min(0).max(4_096).default(POOL_MAX),
      /** After it a template that nobody asked for has none. */
      idleMs: count.max(24 * HOUR_MS).default(POOL_IDLE_MS),
    })
    .prefault({}),
  interpreters: z
    .strictObject({
      /** What Python has imported before the first call of a context, where it is there: each further context has it at no cost. */
      pythonModules: z
        .array(z.string().regex(/^[A-Za-z_]\w{0,63}(\.[A-Za-z_]\w{0,63}){0,8}$/, "expected the name of a module"))
        .max(100)
        .default([...PYTHON_MODULES]),
    })
    .prefault({}),
  /** How long requests under way may take when the server is asked to end. */
  drainMs: z.int().min(0).max(HOUR_MS).default(DRAIN_MS),
});

export type ServerConfig = z.output<typeof serverConfig>;

/** Keys whose value is shown to nobody, or only without its password. */
export const SECRET_KEYS: ReadonlySet<string> = new Set(["store.url"]);

/** Every key as a dotted path, in the order above, with the shape of its value. */
export function configKeys(): ReadonlyMap<string, z.ZodType> {
  return new Map(leavesOf(serverConfig, ""));
}

function leavesOf(type: z.ZodType, path: string): (readonly [string, z.ZodType])[] {
  const bare = unwrap(type);
  if (!(bare instanceof z.ZodObject)) return [[path, bare]];
  return Object.entries(bare.shape as Record<string, z.ZodType>).flatMap(([key, inner]) =>
    leavesOf(inner, path === "" ? key : `${path}.${key}`),
  );
}

/** Without the default and the `null` around it. */
function unwrap(type: z.ZodType): z.ZodType {
  if (type instanceof z.ZodDefault || type instanceof z.ZodPrefault || type instanceof z.ZodNullable)
    return unwrap(type.unwrap() as z.ZodType);
  return type;
}
