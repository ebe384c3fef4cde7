// What is spoken over a WebSocket of a terminal, which a one-time ticket opens: bytes of stdin and stdout as binary messages, all else as JSON
// in text messages. Types alone. Invariant: what a program writes is never a text message, so nothing that it writes can be taken for one.

import type { ProcessInfo } from "./processes.ts";
import type { WireError } from "./server.ts";

/** A new process on a terminal, or one that is there already. */
export type TerminalTicketBody =
  | {
      readonly terminal: {
        readonly rows: number;
        readonly cols: number;
        /** Default: an interactive bash, or sh where there is none. */
        readonly command?: readonly string[] | string;
        readonly env?: Readonly<Record<string, string>>;
        readonly cwd?: string;
      };
    }
  | {
      readonly process: string;
      /** Offset of its output to go on from; default: the first that is there. */
      readonly from?: number;
    };

/** From the server. stdout comes as binary messages between these. */
export type TerminalSays =
  /** First. `offset` is that of the first byte of output that follows. */
  | { readonly type: "start"; readonly process: ProcessInfo; readonly offset: number }
  /** base64; of a process without a terminal. */
  | { readonly type: "stderr"; readonly data: string }
  | { readonly type: "gap"; readonly offset: number }
  /** Last. */
  | { readonly type: "exit"; readonly process: ProcessInfo }
  | { readonly type: "error"; readonly error: WireError };

/** From the client. stdin goes as binary messages. */
export type TerminalHears =
  | { readonly type: "resize"; readonly rows: number; readonly cols: number }
  | { readonly type: "signal"; readonly signal: string; readonly tree?: boolean }
  /** Closes stdin behind what was sent. */
  | { readonly type: "end" };
