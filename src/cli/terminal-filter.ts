// Passes a program's output to a person's terminal and takes out what would act on the terminal's owner: clipboard (OSC 52),
// strings for other programs (DCS, APC, PM, SOS), window operations, answerback, C1. Not an emulator: it keeps no screen.
// `strict` is for output that reaches a terminal without a pty of the sandbox: colours stay, everything else goes.
// Invariant: a sequence that is dropped is dropped whole, however it is cut into chunks, and memory is bounded.

export type FilterMode = "pty" | "strict";

/** Longest escape sequence that is looked at; a longer one is dropped. */
const MAX_SEQUENCE = 4096;

const BEL = 0x07;
const ESC = 0x1b;
/** Operating system commands that only draw: titles, colours, links, prompt marks. */
const HARMLESS_OSC = new Set(["0", "1", "2", "4", "8", "10", "11", "12", "104", "110", "111", "112", "133"]);
/** Those of them that answer when asked. */
const COLOUR_OSC = new Set(["4", "10", "11", "12"]);
/** Private modes that are on when a terminal starts: cursor shown, lines wrapped. */
const ON_AT_START = new Set(["25", "7"]);

/** ESC Z asks for an answer; ESC \ ends a string that was dropped before. */
const IDLE_ESCAPES = new Set([0x5a, 0x5c]);
/** Last bytes of control sequences that a terminal answers: n, c, p, u, q, x. Some of them only draw; asking once too often costs nothing. */
const ANSWERED = new Set([0x6e, 0x63, 0x70, 0x75, 0x71, 0x78]);
/**
 * ESC D, one line down in the same column. Node.js's raw mode leaves the terminal adding a return to each line feed; the pty inside has
 * done that already where the program wants it, so a line feed without one means the column stays.
 */
const INDEX = [0x1b, 0x44];

type State = "ground" | "escape" | "escape-between" | "csi" | "osc" | "string" | "utf8";

/** A filter for one stream. `feed` returns what may be written; what is held back is a sequence that is not complete yet. */
export class TerminalFilter {
  readonly #strict: boolean;
  #state: State = "ground";
  /** Bytes of the sequence under way. */
  #held: number[] = [];
  /** Continuation bytes that the UTF-8 character under way still lacks. */
  #missing = 0;
  #overlong = false;
  /** A string sequence saw ESC: `\` ends it. */
  #escaped = false;
  #asked = false;
  /** The last byte on the ground was a carriage return. */
  #returned = false;
  /** Private modes that stand otherwise than at a terminal's start. */
  readonly #changedModes = new Set<string>();

  constructor(mode: FilterMode) {
    this.#strict = mode === "strict";
  }

  /** Whether something passed that a terminal answers (status, cursor, device, modes): answers may still be on their way. */
  get asked(): boolean {
    return this.#asked;
  }

  feed(chunk: Uint8Array): Uint8Array {
    const out: number[] = [];
    for (const byte of chunk) this.#step(byte, out);
    return Uint8Array.from(out);
  }

  /** End of stream: an open sequence is dropped, an open character is replaced. */
  end(): Uint8Array {
    const broken = this.#state === "utf8";
    this.#reset();
    return broken ? Uint8Array.of(0x3f) : new Uint8Array();
  }

  /** What brings the terminal back to what it was: modes the program left on, colours, character set, keypad. */
  restore(): string {
    const modes = [...this.#changedModes].map((mode) => `\x1b[?${mode}${ON_AT_START.has(mode) ? "h" : "l"}`);
    this.#changedModes.clear();
    return `${modes.join("")}\x1b[0m\x1b(B\x0f\x1b>`;
  }

  #step(byte: number, out: number[]): void {
    switch (this.#state) {
      case "ground":
        return this.#ground(byte, out);
      case "utf8":
        return this.#utf8(byte, out);
      case "escape":
        return this.#escape(byte, out);
      case "escape-between":
        return this.#escapeBetween(byte, out);
      case "csi":
        return this.#csi(byte, out);
      case "osc":
      case "string":
        return this.#string(byte, out);
    }
  }

  #ground(byte: number, out: number[]): void {
    if (byte === ESC) return this.#begin("escape", byte);
    const afterReturn = this.#returned;
    this.#returned = byte === 0x0d;
    if (byte < 0x20 || byte === 0x7f) {
      if (byte === 0x0a && !this.#strict && !afterReturn) out.push(...INDEX);
      else if (this.#control(byte)) out.push(byte);
      return;
    }
    if (byte < 0x7f) {
      out.push(byte);
      return;
    }
    this.#missing = byte >= 0xf0 && byte <= 0xf4 ? 3 : byte >= 0xe0 ? 2 : 1;
    // A lone continuation byte is a C1 control for a terminal that is not in UTF-8 mode.
    if (byte < 0xc2 || byte > 0xf4) out.push(0x3f);
    else this.#begin("utf8", byte);
  }

  /** Strict: no carriage movement but newline, tab and the return that progress lines use. Answerback (ENQ) and charset shifts never. */
  #control(byte: number): boolean {
    if (byte === 0x09 || byte === 0x0a || byte === 0x0d || byte === 0x08) return true;
    if (this.#strict) return false;
    return byte === BEL || byte === 0x0b || byte === 0x0c || byte === 0x0e || byte === 0x0f;
  }

  #utf8(byte: number, out: number[]): void {
    if (byte < 0x80 || byte > 0xbf) {
      out.push(0x3f);
      this.#reset();
      this.#step(byte, out);
      return;
    }
    this.#held.push(byte);
    this.#missing -= 1;
    if (this.#missing > 0) return;
    if (this.#drawable()) out.push(...this.#held);
    else out.push(0x3f);
    this.#reset();
  }

  /** Whether the character held may be shown: no C1 (U+0080-U+009F), and in strict mode none that turns the text's direction. */
  #drawable(): boolean {
    const [first = 0, second = 0, third = 0] = this.#held;
    // Over-long forms and surrogates: a lax decoder reads a control character out of them.
    if (
      (first === 0xe0 && second < 0xa0) ||
      (first === 0xed && second > 0x9f) ||
      (first === 0xf0 && second < 0x90) ||
      (first === 0xf4 && second > 0x8f)
    )
      return false;
    if (first === 0xc2) return second >= 0xa0;
    if (!this.#strict || first !== 0xe2) return true;
    if (second === 0x80) return !(third >= 0xaa && third <= 0xae); // U+202A-U+202E
    return !(second === 0x81 && third >= 0xa6 && third <= 0xa9); // U+2066-U+2069
  }

  #escape(byte: number, out: number[]): void {
    this.#held.push(byte);
    if (byte === 0x5b) this.#state = "csi";
    else if (byte === 0x5d) this.#state = "osc";
    else if (byte === 0x50 || byte === 0x58 || byte === 0x5e || byte === 0x5f) this.#state = "string";
    else if (byte >= 0x20 && byte <= 0x2f) this.#state = "escape-between";
    else if (byte === ESC) this.#begin("escape", byte);
    else this.#finish(!this.#strict && byte >= 0x30 && byte <= 0x7e && !IDLE_ESCAPES.has(byte), out);
  }

  #escapeBetween(byte: number, out: number[]): void {
    this.#held.push(byte);
    if (byte === ESC) this.#begin("escape", byte);
    else if (byte < 0x20 || byte > 0x2f) this.#finish(!this.#strict && byte >= 0x30 && byte <= 0x7e, out);
    else this.#bound();
  }

  #csi(byte: number, out: number[]): void {
    if (byte === ESC) return this.#begin("escape", byte);
    // A terminal obeys controls inside a sequence; here they end it, dropped, so that both read the same.
    if (byte < 0x20 || byte > 0x7e) {
      this.#reset();
      if (byte !== 0x18 && byte !== 0x1a) this.#step(byte, out);
      return;
    }
    this.#held.push(byte);
    if (byte < 0x40) return this.#bound();
    const allowed = this.#csiAllowed(byte);
    if (allowed) this.#noteModes(byte);
    if (allowed && ANSWERED.has(byte)) this.#asked = true;
    this.#finish(allowed, out);
  }

  #noteModes(final: number): void {
    if (final !== 0x68 && final !== 0x6c) return;
    const parameters = Buffer.from(this.#held.slice(2, -1)).toString("latin1");
    if (!/^\?[0-9;]+$/.test(parameters)) return;
    for (const mode of parameters.slice(1).split(";")) {
      const on = final === 0x68;
      // Bounded: a hostile program can name no more modes than there are short numbers.
      if (mode === "" || mode.length > 4) continue;
      if (on === ON_AT_START.has(mode)) this.#changedModes.delete(mode);
      else this.#changedModes.add(mode);
    }
  }

  #csiAllowed(final: number): boolean {
    const parameters = Buffer.from(this.#held.slice(2, -1)).toString("latin1");
    if (this.#strict) return final === 0x6d && /^[0-9;:]*$/.test(parameters);
    // Window operations move, resize and report titles; saving and restoring a title is what editors do.
    if (final === 0x74) return /^2[23];[012]$/.test(parameters);
    // Answers that carry text chosen by the program, or the terminal's memory: checksum and area reports, DECRQM of presets.
    if (final === 0x79 && parameters.endsWith("*")) return false;
    // Media copy prints or sends the screen to a program.
    if (final === 0x69) return false;
    return true;
  }

  #string(byte: number, out: number[]): void {
    if (this.#escaped) {
      this.#escaped = false;
      if (byte === 0x5c) return this.#finish(this.#stringAllowed(), out, [ESC, 0x5c]);
      this.#begin("escape", ESC);
      return this.#step(byte, out);
    }
    if (byte === ESC) {
      this.#escaped = true;
      return;
    }
    if (byte === 0x18 || byte === 0x1a) return this.#reset();
    if (byte === BEL && this.#state === "osc") return this.#finish(this.#stringAllowed(), out, [BEL]);
    // Past the bound the string is still eaten to its end, it is only no longer kept.
    if (this.#held.length < MAX_SEQUENCE) this.#held.push(byte);
    else this.#overlong = true;
  }

  #stringAllowed(): boolean {
    if (this.#strict || this.#state !== "osc" || this.#overlong) return false;
    const text = Buffer.from(this.#held.slice(2)).toString("latin1");
    const end = text.indexOf(";");
    const number = end === -1 ? text : text.slice(0, end);
    // A `?` asks; the answer would be typed into whatever reads the terminal by then.
    if (!HARMLESS_OSC.has(number) || (COLOUR_OSC.has(number) && text.includes("?"))) return false;
    // Raw C1 bytes or controls inside would end the string early for some terminals.
    return !/[\u0000-\u001f\u007f]/.test(text) && !hasRawC1(this.#held);
  }

  #begin(state: State, byte: number): void {
    this.#state = state;
    this.#held = [byte];
    this.#escaped = false;
    this.#overlong = false;
  }

  #finish(allowed: boolean, out: number[], ending: readonly number[] = []): void {
    if (allowed) {
      out.push(...this.#held, ...ending);
      this.#returned = false; // it may have moved the cursor
    }
    this.#reset();
  }

  #bound(): void {
    if (this.#held.length > MAX_SEQUENCE) this.#reset();
  }

  #reset(): void {
    this.#state = "ground";
    this.#held = [];
    this.#missing = 0;
    this.#escaped = false;
    this.#overlong = false;
  }
}

/** Whether bytes hold 0x80-0x9f outside of a UTF-8 character, or as one (C2 80 - C2 9F). */
function hasRawC1(bytes: readonly number[]): boolean {
  const text = Buffer.from(bytes).toString("utf8");
  return /[\u0080-\u009f\ufffd]/.test(text);
}
