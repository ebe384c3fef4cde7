// `./corral torture [--kills N] [--seed N]`: the long form of test/faults/kill-server, with a line for each kill. Prints the seed first, the
// figures last; exit 1 when something that is promised does not hold.

import { parseArgs } from "node:util";
import { torture } from "./kill-server.ts";

const { values } = parseArgs({ options: { kills: { type: "string", default: "200" }, seed: { type: "string" } } });
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const kills = Number(values.kills);
if (!Number.isSafeInteger(seed) || !Number.isSafeInteger(kills) || kills < 1 || kills > 100_000) {
  process.stderr.write("torture: --kills wants a number of kills, 1 to 100000, --seed a number\n");
  process.exit(2);
}
process.stdout.write(`torture: ${kills} kills, --seed ${seed}\n`);
const startedMs = performance.now();
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort(new Error(signal)));
try {
  const counts = await torture({ seed, kills, signal: stop.signal, onKill: (line) => process.stdout.write(`${line}\n`) });
  process.stdout.write(`${JSON.stringify({ seed, seconds: Math.round((performance.now() - startedMs) / 1000), ...counts })}\n`);
} catch (error) {
  process.stdout.write(`BROKEN with --seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
}
