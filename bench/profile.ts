// Runs a bench under V8's sampling profiler and writes `<prefix>.cpuprofile` and `<prefix>.heap.json`.
// The profile opens in any DevTools; the heap figures are before, after, and the peak seen each 50 ms.

import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";

const HEAP_SAMPLE_MS = 50;

export async function profiled(prefix: string, act: () => Promise<void>): Promise<void> {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.setSamplingInterval", { interval: 200 });
  const before = process.memoryUsage();
  let peak = before;
  const timer = setInterval(() => {
    const now = process.memoryUsage();
    if (now.rss > peak.rss) peak = now;
  }, HEAP_SAMPLE_MS);
  await session.post("Profiler.start");
  try {
    await act();
  } finally {
    clearInterval(timer);
    const { profile } = await session.post("Profiler.stop");
    writeFileSync(`${prefix}.cpuprofile`, JSON.stringify(profile));
    writeFileSync(`${prefix}.heap.json`, JSON.stringify({ before, peak, after: process.memoryUsage() }, null, 1));
    session.disconnect();
  }
}
