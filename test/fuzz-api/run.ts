// `./corral fuzz [--seconds N] [--seed N]`: the long form of the fuzzing of the API. Prints the seed first, the figures last; exit 1 with
// what was found.

import { parseArgs } from "node:util";
import { fuzzApi } from "./fuzz.ts";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "60" }, seed: { type: "string" } } });
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const seconds = Number(values.seconds);
if (!Number.isSafeInteger(seed) || !Number.isSafeInteger(seconds) || seconds < 1 || seconds > 86_400) {
  process.stderr.write("fuzz: --seconds wants 1 to 86400, --seed a number\n");
  process.exit(2);
}
process.stdout.write(`fuzz: ${seconds} s, --seed ${seed}\n`);
const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort());
try {
  process.stdout.write(`${JSON.stringify({ seed, seconds, ...(await fuzzApi({ seed, seconds, signal: stop.signal })) })}\n`);
} catch (error) {
  process.stdout.write(`FOUND ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
