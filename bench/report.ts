// Draws bench/REPORT.md and its pictures from the results that earlier runs saved. Measures nothing.
// Invariant: every figure on the page is one that a bench printed; the machine it was taken on stands beside it.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { CorralError } from "../src/api/errors.ts";
import type { Row } from "./bench.ts";
import { figure } from "./print.ts";

interface Saved {
  readonly machine: Readonly<Record<string, string>>;
  readonly quick: boolean;
  readonly what: string;
  readonly rows: readonly Row[];
}

/** Writes the report beside the results' folder and returns its path. */
export async function writeReport(results: string): Promise<string> {
  const pictures = join(results, "..", "pictures");
  const names = listResults(results);
  if (names.length === 0) throw new CorralError("request_invalid", "There are no saved results to draw. Run ./corral bench first.");
  mkdirSync(pictures, { recursive: true });
  const parts: string[] = [];
  for (const name of names) {
    const saved = JSON.parse(readFileSync(join(results, name), "utf8")) as Saved;
    const id = name.slice(0, -".json".length);
    writeFileSync(join(pictures, `${id}.svg`), await picture(saved));
    parts.push(section(id, saved));
  }
  const page = join(results, "..", "REPORT.md");
  writeFileSync(
    page,
    `# Bench report\n\nPrinted by \`./corral bench --report\` from saved runs. A ratio was measured in one run, ours and the peer in turn; absolute times move with the machine.\n\n${parts.join("\n")}`,
  );
  return page;
}

function listResults(results: string): string[] {
  try {
    return readdirSync(results)
      .filter((name) => name.endsWith(".json") && !name.endsWith(".heap.json"))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function section(id: string, saved: Saved): string {
  const machine = Object.entries(saved.machine)
    .map(([key, value]) => `${key} ${value}`)
    .join(" · ");
  const lines = saved.rows.map((row) => {
    const against = row.against === undefined || row.ratio === undefined ? "" : `${figure(row.ratio)}x ${row.against}`;
    const verdict = row.met === null ? "" : row.met ? "yes" : "**no**";
    return `| ${row.metric} | ${row.n} | ${figure(row.p50)} | ${figure(row.p95)} | ${figure(row.p99)} | ${row.unit} | ${against} | ${row.target} | ${verdict} |`;
  });
  return `## ${id}: ${saved.what}\n\n${machine}${saved.quick ? " · quick run" : ""}\n\n![${id}](pictures/${id}.svg)\n\n| metric | n | p50 | p95 | p99 | unit | against | target | met |\n|---|---|---|---|---|---|---|---|---|\n${lines.join("\n")}\n`;
}

/** Samples as dots with their median, ours and the peer in one picture; one panel per metric, axes apart since units differ. */
function picture(saved: Saved): Promise<string> {
  const values = saved.rows.flatMap((row) => [
    ...thin(row.samples).map((value) => ({ metric: `${row.metric} [${row.unit}]`, who: "Corral", value })),
    ...thin(row.againstSamples ?? []).map((value) => ({ metric: `${row.metric} [${row.unit}]`, who: row.against ?? "peer", value })),
  ]);
  const spec: TopLevelSpec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    data: { values },
    facet: { row: { field: "metric", type: "nominal", title: null, header: { labelAngle: 0, labelAlign: "left", labelLimit: 320 } } },
    resolve: { scale: { x: "independent", y: "independent" } },
    spec: {
      width: 520,
      height: { step: 22 },
      layer: [
        { mark: { type: "tick", opacity: 0.25, thickness: 1 } },
        {
          mark: { type: "point", filled: true, size: 70 },
          encoding: { x: { aggregate: "median", field: "value", type: "quantitative", title: null } },
        },
      ],
      encoding: {
        x: { field: "value", type: "quantitative", title: null, scale: { zero: true } },
        y: { field: "who", type: "nominal", title: null },
        color: { field: "who", type: "nominal", legend: null },
      },
    },
  };
  return new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
}

const MOST_DOTS = 300;

/** At most MOST_DOTS samples, evenly taken: a picture of ten thousand dots is large and says no more. */
function thin(samples: readonly number[]): readonly number[] {
  if (samples.length <= MOST_DOTS) return samples;
  const step = samples.length / MOST_DOTS;
  return Array.from({ length: MOST_DOTS }, (_, index) => samples[Math.floor(index * step)] ?? 0);
}
