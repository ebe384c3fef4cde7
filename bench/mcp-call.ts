// A call of Python as an MCP client makes it, over pipes and over HTTP, beside the same call in this process, in turn.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { join } from "node:path";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";
import { request, smallProject } from "./project.ts";
import { benchServer } from "./server.ts";

const CODE = "1 + 1";

type Transport = StdioClientTransport | StreamableHTTPClientTransport;

async function* mcpCall(context: BenchContext): AsyncIterable<Row> {
  const corral = await context.open();
  await using here = await corral.create(request(smallProject(join(context.scratch, "project"))));
  const { id } = await here.contexts.create();
  const inProcess = async (): Promise<void> => {
    const { status } = await here.contexts.run(id, { code: CODE });
    if (status !== "ok") throw new Error(`the call ended with ${status}`);
  };
  const [command = "", ...words] = context.corralArgv;
  const args = [...words, "mcp", "--data", join(context.scratch, "data")];
  yield await beside(context, { name: "over pipes", transport: new StdioClientTransport({ command, args, stderr: "ignore" }), inProcess });
  await using server = await benchServer(context);
  const requestInit = { headers: { authorization: `Bearer ${server.key}` } };
  const transport = new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), { requestInit });
  yield await beside(context, { name: "over HTTP", transport, inProcess });
}

interface Side {
  readonly name: string;
  readonly transport: Transport;
  readonly inProcess: () => Promise<void>;
}

async function beside(context: BenchContext, { name, transport, inProcess }: Side): Promise<Row> {
  const client = new Client({ name: "bench", version: "1.0.0" });
  await client.connect(transport);
  try {
    const call = async (): Promise<void> => {
      const { isError } = await client.callTool({ name: "python_execute", arguments: { code: CODE } });
      if (isError === true) throw new Error("the tool failed");
    };
    const { ours, theirs } = await inTurn({
      n: context.quick ? 200 : 2000,
      warmup: 50,
      ours: () => timed(call),
      theirs: () => timed(inProcess),
      progress: (done, total) => context.progress(`1 + 1 ${name}; in-process in turn`, done, total),
    });
    const samples = ours.map((ms, index) => ms - (theirs[index] ?? Number.NaN));
    const isPipe = name === "over pipes";
    return row({
      id: "mcp-call",
      metric: `1 + 1 ${name}, above in-process`,
      unit: "ms",
      samples,
      target: isPipe ? "≤ 1 ms at p50" : "told",
      ...(isPipe ? { judge: ({ p50 }) => p50 <= 1 } : {}),
    });
  } finally {
    await client.close();
  }
}

export const bench: Bench = { id: "mcp-call", what: "python_execute of an MCP client, over pipes and over HTTP", run: mcpCall };
