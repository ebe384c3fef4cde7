// The server's numbers in Prometheus' words, under the names `corral_*`. Not where anything is decided.
// Invariant: a label is one of a fixed set of words (a route's pattern, a state, a code), never an id, an owner or a path, so the number of
// series does not grow with use; a number that this machine does not count is absent, never zero.

import { collectDefaultMetrics, Registry } from "prom-client";
import { ERROR_KINDS, type ErrorCode } from "../api/errors.ts";
import type { Meter, StartSeen } from "../service/meter.ts";
import type { Service } from "../service/service.ts";
import { counter, seconds, watched, watchedTotal } from "./instruments.ts";
import { watchMachine } from "./machine-metrics.ts";

/** What a request tells of itself while it is served. */
export interface Seen {
  readonly startedMs: number;
  /** What the time went to, ms, in order. */
  readonly stages: Map<string, number>;
  /** What stages are made of, ms: told, and not part of the sum. */
  readonly parts: Map<string, number>;
  /** Of the error that was answered, also in a stream. */
  failure?: ErrorCode;
  sandboxId?: string;
}

export interface RequestSeen {
  readonly route: string;
  readonly method: string;
  readonly status: number;
  readonly ms: number;
  readonly seen: Seen;
}

/** By method and pattern of its route: what people ask a server for, and how long it takes. */
const OPERATIONS: Readonly<Record<string, string>> = {
  "POST /v1/sandboxes": "create",
  "DELETE /v1/sandboxes/:id": "destroy",
  "POST /v1/sandboxes/:id/exec": "exec",
};

const MS_PER_SECOND = 1_000;

export class ServerMetrics implements Meter {
  readonly #registry = new Registry();
  readonly #requests = counter(this.#registry, {
    name: "http_requests_total",
    help: "Requests that were answered",
    labels: ["route", "method", "status"],
  });
  readonly #requestSeconds = seconds(this.#registry, {
    name: "http_request_duration_seconds",
    help: "Until an answer was whole",
    labels: ["route", "method", "status"],
  });
  readonly #operations = counter(this.#registry, {
    name: "operations_total",
    help: "What was asked for, and how it ended",
    labels: ["operation", "outcome"],
  });
  readonly #operationSeconds = seconds(this.#registry, {
    name: "operation_duration_seconds",
    help: "Until what was asked for was answered whole",
    labels: ["operation", "outcome"],
  });
  readonly #stageSeconds = seconds(this.#registry, {
    name: "operation_stage_seconds",
    help: "What the time of an operation went to",
    labels: ["operation", "stage"],
  });
  readonly #errors = counter(this.#registry, { name: "errors_total", help: "Errors that were answered", labels: ["code"] });
  readonly #starts = counter(this.#registry, {
    name: "sandbox_starts_total",
    help: "Sandboxes that were to start, by where they came from",
    labels: ["source", "runtime", "outcome"],
  });

  readonly #proxied = counter(this.#registry, {
    name: "proxy_requests_total",
    help: "Requests that were passed on to ports of sandboxes, and how they ended",
    labels: ["form", "outcome"],
  });
  readonly #proxiedBytes = counter(this.#registry, {
    name: "proxy_bytes_total",
    help: "Bytes of bodies that passed to and from ports of sandboxes",
    labels: ["direction"],
  });

  readonly #proxySlowedSeconds = counter(this.#registry, {
    name: "proxy_slowed_seconds_total",
    help: "Time by which the byte rates of sandboxes held connections to their ports back",
  });

  /** `dataDir`: whose disk is looked at. */
  constructor(dataDir: string) {
    collectDefaultMetrics({ register: this.#registry });
    watchMachine(this.#registry, dataDir);
  }

  /** From now on the sandboxes of the service, and what they take, are counted when somebody asks. */
  watch({ sandboxes, networks }: Service): void {
    const registry = this.#registry;
    watchEgress(registry, networks);
    watched(registry, { name: "sandboxes", help: "Sandboxes of this server", labels: ["state", "runtime"] }, (put) => {
      for (const { state, runtime, count } of sandboxes.counts()) put({ state, runtime }, count);
    });
    watched(registry, { name: "view_mounts", help: "Views that are mounted", labels: ["runtime"] }, async (put) => {
      for (const [runtime, used] of await sandboxes.usage()) put({ runtime }, used.sandboxes);
    });
    watched(registry, { name: "pool_ready", help: "Sandboxes that were started ahead and wait" }, (put) => {
      const pool = sandboxes.pool();
      if (pool !== undefined) put({}, pool.ready);
    });
    const claims = {
      name: "pool_claims_total",
      help: "Creates that one started ahead could serve, and whether one waited",
      labels: ["outcome"],
    };
    watchedTotal(registry, claims, (put) => {
      const pool = sandboxes.pool();
      if (pool === undefined) return;
      put({ outcome: "hit" }, pool.hits);
      put({ outcome: "miss" }, pool.misses);
    });
    const discards = { name: "pool_discards_total", help: "Sandboxes started ahead that died, did not answer or grew old" };
    watchedTotal(registry, discards, (put) => {
      const pool = sandboxes.pool();
      if (pool !== undefined) put({}, pool.discarded);
    });
    const memory = { name: "sandbox_memory_bytes", help: "Memory of all sandboxes together", labels: ["runtime"] };
    watched(registry, memory, async (put) => {
      for (const [runtime, { memoryBytes }] of await sandboxes.usage()) if (memoryBytes !== null) put({ runtime }, memoryBytes);
    });
    const cpu = { name: "sandbox_cpu_seconds_total", help: "CPU time of all sandboxes together, ended ones too", labels: ["runtime"] };
    watchedTotal(registry, cpu, async (put) => {
      for (const [runtime, { cpuSeconds }] of await sandboxes.usage()) if (cpuSeconds !== null) put({ runtime }, cpuSeconds);
    });
    const io = { name: "sandbox_io_bytes_total", help: "Disk traffic of all sandboxes together", labels: ["runtime", "direction"] };
    watchedTotal(registry, io, async (put) => {
      for (const [runtime, used] of await sandboxes.usage()) {
        if (used.io === null) continue;
        put({ runtime, direction: "read" }, used.io.readBytes);
        put({ runtime, direction: "write" }, used.io.writtenBytes);
      }
    });
  }

  watchProxy(open: () => number): void {
    watched(this.#registry, { name: "proxy_open", help: "Connections to ports of sandboxes" }, (put) => put({}, open()));
  }

  proxied(form: "host" | "path", failure: ErrorCode | undefined): void {
    this.#proxied.inc({ form, outcome: outcomeOf(failure) });
  }

  /** `waitMs`: for how long what comes next was held back. */
  proxiedBytes(direction: "in" | "out", bytes: number, waitMs: number): void {
    this.#proxiedBytes.inc({ direction }, bytes);
    if (waitMs > 0) this.#proxySlowedSeconds.inc(waitMs / MS_PER_SECOND);
  }

  request({ route, method, status, ms, seen }: RequestSeen): void {
    const labels = { route, method, status: `${Math.floor(status / 100)}xx` };
    this.#requests.inc(labels);
    this.#requestSeconds.observe(labels, ms / MS_PER_SECOND);
    if (seen.failure !== undefined) this.#errors.inc({ code: seen.failure });
    const operation = OPERATIONS[`${method} ${route}`];
    if (operation === undefined) return;
    const outcome = outcomeOf(seen.failure);
    this.#operations.inc({ operation, outcome });
    this.#operationSeconds.observe({ operation, outcome }, ms / MS_PER_SECOND);
    for (const [stage, stageMs] of seen.stages) this.#stageSeconds.observe({ operation, stage }, stageMs / MS_PER_SECOND);
  }

  started({ source, runtime, failure }: StartSeen): void {
    this.#starts.inc({ source, runtime, outcome: outcomeOf(failure) });
  }

  /** The text that Prometheus reads, and its media type. */
  async text(): Promise<{ readonly body: string; readonly type: string }> {
    return { body: await this.#registry.metrics(), type: this.#registry.contentType };
  }
}

/** One of the words that dashboards are drawn by. */
function outcomeOf(failure: ErrorCode | undefined): "ok" | "refused" | "error" | "timeout" | "cancelled" {
  if (failure === undefined) return "ok";
  if (failure === "canceled") return "cancelled";
  if (failure === "request_timeout") return "timeout";
  const { fault } = ERROR_KINDS[failure];
  return fault === "caller" || fault === "state" ? "refused" : "error";
}

/** What sandboxes carried through the egress proxy. */
function watchEgress(registry: Registry, networks: Service["networks"]): void {
  const bytes = { name: "egress_bytes_total", help: "Bytes that sandboxes sent and got through the egress proxy", labels: ["direction"] };
  watchedTotal(registry, bytes, async (put) => {
    const { sentBytes, receivedBytes } = await networks.totals();
    put({ direction: "out" }, sentBytes);
    put({ direction: "in" }, receivedBytes);
  });
  const slowed = { name: "egress_slowed_seconds_total", help: "Time by which the byte rates of sandboxes held connections back" };
  watchedTotal(registry, slowed, async (put) => put({}, (await networks.totals()).slowedMs / 1_000));
  const verdicts = {
    name: "egress_connections_total",
    help: "Connections to the egress proxy, and what was refused or limited",
    labels: ["outcome"],
  };
  watchedTotal(registry, verdicts, async (put) => {
    const { connections, refused, limited } = await networks.totals();
    put({ outcome: "all" }, connections);
    put({ outcome: "refused" }, refused);
    put({ outcome: "limited" }, limited);
  });
}
