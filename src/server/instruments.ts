// Makes one family of Prometheus' numbers each, under `corral_`. Invariant: what is asked for at a scrape replaces what the last one saw.

import { Counter, Gauge, Histogram, type Registry } from "prom-client";

export interface Family {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

export type Labels = Readonly<Record<string, string>>;
/** Receives one value of a family. */
export type Put = (labels: Labels, value: number) => void;

const PREFIX = "corral_";
/** Seconds. */
const BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export function counter(registry: Registry, family: Family): Counter {
  return new Counter({ ...configured(family), registers: [registry] });
}

export function seconds(registry: Registry, family: Family): Histogram {
  return new Histogram({ ...configured(family), buckets: BUCKETS, registers: [registry] });
}

/** A gauge whose values are asked for at each scrape. */
export function watched(registry: Registry, family: Family, collect: (put: Put) => void | Promise<void>): void {
  const gauge: Gauge = new Gauge({
    ...configured(family),
    registers: [registry],
    collect: async () => {
      gauge.reset();
      await collect((labels, value) => gauge.set(labels, value));
    },
  });
}

/** A total that somebody else counts: what is put is the whole of it. */
export function watchedTotal(registry: Registry, family: Family, collect: (put: Put) => void | Promise<void>): void {
  const total: Counter = new Counter({
    ...configured(family),
    registers: [registry],
    collect: async () => {
      total.reset();
      await collect((labels, value) => total.inc(labels, value));
    },
  });
}

function configured({ name, help, labels = [] }: Family): { readonly name: string; readonly help: string; readonly labelNames: string[] } {
  return { name: `${PREFIX}${name}`, help, labelNames: [...labels] };
}
