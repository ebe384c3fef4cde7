// The page's own few lines: xterm.js on the screen, joined to a sandbox. Served to the browser with its types taken out.

import { join, type Screen, type Wanted } from "./terminal.ts";

interface Xterm {
  readonly Terminal: new (size: {
    readonly rows: number;
    readonly cols: number;
  }) => Screen & { open(parent: unknown): void; focus(): void };
}

const { document } = globalThis as unknown as { readonly document: { querySelector(selector: string): unknown } };
// Its own types would bring all of a browser's into a project of Node.js.
const address = "/xterm.mjs";
const { Terminal } = (await import(address)) as Xterm;
const screen = new Terminal({ rows: 30, cols: 100 });
screen.open(document.querySelector("#terminal"));
screen.focus();

async function ask(wanted: Wanted): Promise<string> {
  const answer = await fetch("/ticket", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(wanted) });
  if (!answer.ok) throw new Error(await answer.text());
  return await answer.text();
}

try {
  screen.write(`\r\n[ended with ${await join(screen, { ask, Socket: WebSocket })}]\r\n`);
} catch (error) {
  screen.write(`\r\n[${error instanceof Error ? error.message : "it failed"}]\r\n`);
}
