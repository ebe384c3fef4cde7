// `corral logs`: what a process in a server's sandbox has written, as far as it is kept. Invariant: stdout and stderr stay apart, bytes to a
// pipe pass unchanged; the exit code tells of the reading, not of the process.

import type { Client } from "../../api/client.ts";
import { CorralError } from "../../api/errors.ts";
import type { ProcessCalls, ProcessInfo, ProcessOutput } from "../../api/processes.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { sinkOf } from "../streams.ts";
import { tell } from "../tell.ts";
import { sandboxId } from "./sandboxes.ts";

export interface LogsOptions {
  readonly follow?: boolean;
}

export async function logs(client: Client, id: string, process: string | undefined, { follow = false }: LogsOptions): Promise<number> {
  const { processes } = client.sandbox(await sandboxId(client, id));
  const info = await findProcess(processes, process);
  const { from, to } = info.output;
  if (from > 0) tell(`the first ${from} bytes are no longer kept`);
  if (follow || to > from) await show(processes, info, follow ? undefined : to);
  return EXIT_OK;
}

/** The one whose id begins with `text`, or the only one. */
export async function findProcess(processes: ProcessCalls, text = ""): Promise<ProcessInfo> {
  const { items } = await processes.list();
  const found = items.filter(({ id }) => id.startsWith(text));
  const [only, ...others] = found;
  const whose = text === "" ? "are in the sandbox" : `begin with ${JSON.stringify(text)}`;
  if (only === undefined) throw new CorralError("process_not_found", `no processes ${whose}; ended ones are forgotten after a while`);
  if (others.length === 0) return only;
  const ids = found.map(({ id, end }) => (end === null ? id : `${id} (ended)`));
  throw new CorralError("request_invalid", `${found.length} processes ${whose}; name one: ${ids.join(", ")}`);
}

/** Until the byte before `to`, or its end. */
async function show(processes: ProcessCalls, { id, output: { from } }: ProcessInfo, to: number | undefined): Promise<void> {
  const gone = new AbortController();
  const sinks = {
    stdout: sinkOf(process.stdout, { onBroken: () => gone.abort() }),
    stderr: sinkOf(process.stderr, { onBroken: () => undefined }),
  };
  try {
    for await (const piece of processes.output(id, { from, signal: gone.signal })) {
      if (piece.kind === "end") break;
      if (piece.kind === "gap") tell("it wrote faster than could be read; what is missing is no longer kept");
      else await sinks[piece.kind].write(piece.bytes);
      if (to !== undefined && endOf(piece) >= to) break;
    }
  } catch (error) {
    if (!gone.signal.aborted) throw error; // whoever read us has enough
  }
  await sinks.stdout.finish();
  await sinks.stderr.finish();
}

function endOf(piece: Exclude<ProcessOutput, { readonly kind: "end" }>): number {
  return piece.offset + (piece.kind === "gap" ? 0 : piece.bytes.length);
}
