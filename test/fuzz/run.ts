// `./corral fuzz TARGET [--seconds N] [--seed S]`: one fuzzer for long. Each is a test of the suite, which runs it for a moment there.
// Invariant: exit 0 means that it ran its time and found nothing; what it found is printed with the seed that finds it again.

import { parseArgs } from "node:util";
import { ROOT } from "../tools/tree.ts";
import { run } from "../tools/run.ts";

interface Target {
  readonly file: string;
  /** Of the tests in the file, which; absent: all. */
  readonly only?: RegExp;
  /** Among how many tests the time is divided. */
  readonly parts: number;
  readonly what: string;
}

const GUEST = "guest/test/fuzz.test.ts";

const PARSERS = "src/egress/parsers.test.ts";

const TARGETS: Readonly<Record<string, Target>> = {
  frames: { file: GUEST, only: /fuzzing frames/, parts: 1, what: "frames that a host sends to PID 1 (libFuzzer)" },
  records: { file: GUEST, only: /fuzzing records/, parts: 1, what: "requests to the spawner (libFuzzer)" },
  clients: { file: GUEST, only: /fuzzing clients/, parts: 1, what: "hosts that come and go at PID 1 (libFuzzer)" },
  files: { file: GUEST, only: /fuzzing files/, parts: 1, what: "requests to the worker for files (libFuzzer)" },
  dns: { file: GUEST, only: /fuzzing dns/, parts: 1, what: "questions to the stub for names, and what the proxy tells it (libFuzzer)" },
  heads: { file: PARSERS, only: /as a head, llhttp/, parts: 1, what: "request heads that reach the egress proxy, against llhttp" },
  bodies: { file: PARSERS, only: /a body of chunks/, parts: 1, what: "bodies of requests at the egress proxy, against llhttp" },
  answers: { file: PARSERS, only: /an answer that is taken/, parts: 1, what: "answers of servers to the egress proxy, against llhttp" },
  hello: { file: "src/egress/hello.test.ts", only: /the name of a hello/, parts: 1, what: "first messages of TLS, against OpenSSL" },
  preface: { file: "src/egress/entry.property.test.ts", parts: 2, what: "what a sandbox writes to its socket of the egress proxy" },
  masker: {
    file: "src/egress/inspected.test.ts",
    only: /a stream is masked/,
    parts: 1,
    what: "values of secrets in answers, however they are cut",
  },
  guest: { file: "src/runtime/native/hostile-guest.property.test.ts", parts: 1, what: "a guest that lies to its host" },
  policy: { file: "src/policy/policy.property.test.ts", parts: 1, what: "the matcher against a slow reading of the rules" },
  plan: { file: "src/view/plan.property.test.ts", parts: 4, what: "what of a tree a policy shows, against a model" },
  mask: { file: "src/view/mask.property.test.ts", parts: 2, what: "random trees under random policies, mounted for real" },
  delta: { file: "src/view/delta.property.test.ts", parts: 8, what: "operations in a real view, and their commit, against a model" },
  merge: { file: "src/view/merge.property.test.ts", parts: 1, what: "a delta whose marks lie" },
  archive: { file: "src/codebases/intake.property.test.ts", parts: 1, what: "tar, gzip and zstd that lie, into a store of codebases" },
  terminal: { file: "src/cli/terminal-filter.test.ts", only: /cutting the stream/, parts: 1, what: "bytes of a sandbox on a terminal" },
  spawner: { file: "test/fuzz/spawner.test.ts", parts: 1, what: "sequences of create, run and destroy while processes are killed" },
  contain: { file: "test/fuzz/containment.test.ts", parts: 2, what: "random programs of allowed system calls in each runtime" },
  api: { file: "test/fuzz-api/fuzz-api.test.ts", parts: 1, what: "the HTTP API, from its own document" },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "60" }, seed: { type: "string" } },
});
const target = TARGETS[positionals[0] ?? ""];
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const seconds = Number(values.seconds);
if (target === undefined || positionals.length > 1 || !Number.isSafeInteger(seed) || !(seconds >= 1 && seconds <= 86_400)) {
  const list = Object.entries(TARGETS).map(([name, { what }]) => `  ${name.padEnd(11)} ${what}\n`);
  process.stderr.write(`usage: ./corral fuzz TARGET [--seconds 1 to 86400] [--seed N]\n${list.join("")}`);
  process.exit(2);
}
process.stdout.write(`fuzz ${positionals[0]}: ${seconds} s, --seed ${seed}\n`);
process.env["CORRAL_FUZZ_SECONDS"] = String(Math.max(1, Math.round(seconds / target.parts)));
process.env["CORRAL_FUZZ_SEED"] = String(seed);
process.exitCode = await run(ROOT, [target.file], target.only);
