// What the page does: joins a terminal on the screen to a process in a sandbox, over WebSockets that one-time tickets open. It is served to
// the browser with its types taken out. Invariant: no key is here; a connection that broke is taken up where it was.

/** What is used of xterm.js. */
export interface Screen {
  readonly rows: number;
  readonly cols: number;
  write(data: Uint8Array | string): void;
  onData(typed: (text: string) => void): { dispose(): void };
  onResize(resized: (size: { readonly rows: number; readonly cols: number }) => void): { dispose(): void };
}

/** Of a new terminal, or of one that is there and how far it was heard. */
export type Wanted = { readonly rows: number; readonly cols: number } | { readonly process: string; readonly from: number };

export interface JoinParts {
  /** Answers the address of a WebSocket that may be opened once. */
  readonly ask: (wanted: Wanted) => Promise<string>;
  readonly Socket: typeof WebSocket;
}

interface Place {
  readonly process: string;
  /** Offset of the next byte. */
  from: number;
}

type Said =
  | { readonly type: "start"; readonly process: { readonly id: string }; readonly offset: number }
  | { readonly type: "stderr"; readonly data: string }
  | { readonly type: "gap"; readonly offset: number }
  | { readonly type: "exit"; readonly process: { readonly end: { readonly exitCode: number } } }
  | { readonly type: "error"; readonly error: { readonly message: string } };

const RETRY_MS = 1_000;
const MAX_RETRIES = 30;

/** Resolves with the exit code of what ran in the terminal. Throws when the server cannot be reached any more. */
export async function join(screen: Screen, parts: JoinParts): Promise<number> {
  let place: Place | undefined;
  for (let failed = 0; ; failed += 1) {
    const link = new Link(screen, place);
    try {
      await link.speak(new parts.Socket(await parts.ask(place ?? { rows: screen.rows, cols: screen.cols })));
      failed = 0;
    } catch (error) {
      if (failed >= MAX_RETRIES) throw error;
    }
    if (link.exitCode !== undefined) return link.exitCode;
    ({ place } = link);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** One connection. */
class Link {
  exitCode: number | undefined;
  place: Place | undefined;
  readonly #screen: Screen;

  constructor(screen: Screen, place: Place | undefined) {
    this.#screen = screen;
    this.place = place;
  }

  /** Resolves when it is closed. Throws when it never opened. */
  async speak(socket: WebSocket): Promise<void> {
    socket.binaryType = "arraybuffer";
    let hasOpened = false;
    const say = (text: string | Uint8Array<ArrayBuffer>): void => {
      if (socket.readyState === socket.OPEN) socket.send(text);
    };
    const held = [
      this.#screen.onData((text) => say(new TextEncoder().encode(text))),
      this.#screen.onResize(({ rows, cols }) => say(JSON.stringify({ type: "resize", rows, cols }))),
    ];
    const closed = new Promise<void>((resolve) => socket.addEventListener("close", () => resolve()));
    socket.addEventListener("error", () => undefined); // its close follows
    socket.addEventListener("open", () => (hasOpened = true));
    socket.addEventListener("message", ({ data }: { readonly data: unknown }) => {
      if (typeof data === "string") this.#hear(JSON.parse(data) as Said);
      else this.#show(new Uint8Array(data as ArrayBuffer));
    });
    await closed;
    for (const one of held) one.dispose();
    if (!hasOpened) throw new Error("the terminal could not be opened");
  }

  #show(bytes: Uint8Array): void {
    if (this.place !== undefined) this.place.from += bytes.length;
    this.#screen.write(bytes);
  }

  #hear(said: Said): void {
    if (said.type === "start") this.place = { process: said.process.id, from: said.offset };
    else if (said.type === "stderr") this.#show(Uint8Array.from(atob(said.data), (char) => char.charCodeAt(0)));
    else if (said.type === "gap" && this.place !== undefined) this.place.from = said.offset;
    else if (said.type === "exit") this.exitCode = said.process.end.exitCode;
    else if (said.type === "error") this.#screen.write(`\r\n[${said.error.message}]\r\n`);
  }
}
