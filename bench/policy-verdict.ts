// What a policy costs: compiling its rules, judging half a million paths for the first time, and one verdict when the caches are warm.
// In this process, no disk. The peer is the definition, which reads the rules anew for each path.

import type { Permission, Policy, Rule } from "../src/api/policy.ts";
import { compilePolicy } from "../src/policy/compile.ts";
import { extendPreset } from "../src/policy/presets.ts";
import { rankedRules } from "../src/policy/rules.ts";
import { judge } from "../src/policy/verdict.ts";
import { type Bench, row } from "./bench.ts";

/** Paths that the definition judges in a round: with 10,000 rules one takes milliseconds. */
const FEW = 100;

/** `count` rules of the shapes that people write: names by suffix, trees by name, single files. */
function mixedPolicy(count: number): Policy {
  const rules: Rule[] = [{ pattern: "**", permission: "read" }];
  for (let i = 1; i < count; i++) {
    const patterns = [`*.ext${i}`, `/src/mod${i}/**/gen_*`, `node_${i}/`, `/pkg${i % 50}/file${i}.ts`];
    const permission: Permission = i % 3 === 0 ? "write" : "none";
    rules.push({ pattern: patterns[i % 4] ?? "", permission });
  }
  return { rules };
}

function manyPaths(count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `/pkg${i % 60}/src/mod${i % 977}/a${i % 13}/file${i}.ext${i % 5000}`);
}

/** Milliseconds of processor time of one call: nothing waits here, and a busy machine must not count. */
function timed(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

export const bench: Bench = {
  id: "policy-verdict",
  what: "a policy compiled, half a million paths judged cold, one verdict warm",
  async *run({ quick, progress }) {
    const paths = manyPaths(quick ? 10_000 : 500_000);
    const rounds = quick ? 3 : 10;
    const policies: readonly (readonly [string, Policy])[] = [
      ["agent-safe", extendPreset("agent-safe")],
      ["10,000 rules", mixedPolicy(10_000)],
    ];
    for (const [index, [name, policy]] of policies.entries()) {
      progress(name, index, policies.length);
      const samples = measure(policy, paths, rounds);
      const id = "policy-verdict";
      yield row({ id, metric: `${name}: compile`, unit: "ms", samples: samples.compileMs, target: "-" });
      yield row({
        id,
        metric: `${name}: ${paths.length} paths, cold`,
        unit: "ms",
        samples: samples.coldMs,
        target: "seconds",
        judge: ({ p50 }) => p50 < 5_000,
      });
      yield row({
        id,
        metric: `${name}: one verdict, warm`,
        unit: "ns",
        samples: samples.warmNs,
        target: "< 1,000",
        against: { name: "definition", samples: samples.definitionNs },
        judge: ({ p50 }) => p50 < 1_000,
      });
    }
  },
};

function measure(policy: Policy, paths: readonly string[], rounds: number) {
  const samples = { compileMs: [] as number[], coldMs: [] as number[], warmNs: [] as number[], definitionNs: [] as number[] };
  const few = paths.slice(0, FEW);
  const rules = rankedRules(policy);
  for (let round = 0; round < rounds; round++) {
    let compiled = compilePolicy({ rules: [] });
    samples.compileMs.push(timed(() => (compiled = compilePolicy(policy))));
    const all = (): void => paths.forEach((path) => void compiled.verdict(path, "file"));
    samples.coldMs.push(timed(all));
    samples.warmNs.push((timed(all) * 1e6) / paths.length);
    const byDefinition = (): void => few.forEach((path) => void judge(rules, path, { kind: "file", leadsToOpen: () => true }));
    samples.definitionNs.push((timed(byDefinition) * 1e6) / few.length);
  }
  return samples;
}
