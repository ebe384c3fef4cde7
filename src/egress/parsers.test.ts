// Our parsers of HTTP beside those of Node.js: what we take, they take and read alike; where they differ, we refuse. `./corral fuzz heads`,
// `bodies` and `answers` are the long form.

import fc from "fast-check";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, METHODS, request as httpRequest } from "node:http";
import { describe, expect, it } from "vitest";
import { Wire } from "../../test/fixtures/wire.ts";
import { fuzzed, LONGER_MS } from "../../test/fuzz/budget.ts";
import { changed } from "../../test/fuzz/changed.ts";
import { verifies } from "../../test/verifies.ts";
import { BodyError, BodyReader, framed, LAST_CHUNK } from "./body.ts";
import { answerFraming, headEnd, MAX_HEAD_BYTES, parseAnswerHead, parseRequestHead, type RequestHead } from "./head.ts";
import { Host } from "./host.ts";
import { connectTarget, type Door, planOf } from "./request-plan.ts";
import { Stop } from "./stop.ts";

type Read = { readonly method: string; readonly target: string; readonly headers: readonly string[] } | "refused";

/** What llhttp reads in these bytes as one request. */
function llhttp(bytes: Buffer): Promise<Read> {
  const server = createServer({ insecureHTTPParser: false, requireHostHeader: false });
  const wire = new Wire();
  return new Promise((resolve) => {
    server.on("request", ({ method = "", url = "", rawHeaders }: IncomingMessage) => resolve({ method, target: url, headers: rawHeaders }));
    server.on("connect", ({ method = "", url = "", rawHeaders }: IncomingMessage) => resolve({ method, target: url, headers: rawHeaders }));
    server.on("upgrade", ({ method = "", url = "", rawHeaders }: IncomingMessage) => resolve({ method, target: url, headers: rawHeaders }));
    server.on("clientError", () => resolve("refused"));
    server.emit("connection", wire);
    wire.push(bytes);
  });
}

/** Each request that llhttp reads in these bytes: target and content. What ends within one is `cut`. */
function llhttpBodies(bytes: Buffer): Promise<string[]> {
  const server = createServer({ requireHostHeader: false });
  const wire = new Wire();
  const found: string[] = [];
  return new Promise((resolve) => {
    server.on("request", (request, response) => {
      let text = "";
      request.setEncoding("latin1").on("data", (piece: string) => (text += piece));
      request.on("end", () => {
        found.push(`${request.url} ${text}`);
        response.end();
        if (request.url === "/next") resolve(found);
      });
      request.on("error", () => resolve([...found, "cut"]));
    });
    server.on("clientError", () => resolve([...found, "refused"]));
    server.emit("connection", wire);
    wire.push(bytes);
    wire.push(null);
  });
}

/** What llhttp reads in these bytes as the answer to a GET. */
function llhttpAnswer(bytes: Buffer): Promise<{ status: number; headers: readonly string[]; text: string } | "refused"> {
  const wire = new Wire();
  return new Promise((resolve) => {
    const asking = httpRequest({ createConnection: () => wire, host: "a.org" }, (answer) => {
      let text = "";
      answer.setEncoding("latin1").on("data", (piece: string) => (text += piece));
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, headers: answer.rawHeaders, text }));
      answer.on("error", () => resolve("refused"));
    });
    asking.on("error", () => resolve("refused")).on("upgrade", () => resolve("refused"));
    asking.end();
    wire.push(bytes);
    wire.push(null);
  });
}

function ours(bytes: Buffer): Read {
  const end = headEnd(bytes);
  const head = end > 0 ? parseRequestHead(bytes.subarray(0, end)) : undefined;
  if (head === undefined || !isPlanned(head)) return "refused";
  return { method: head.method, target: head.target, headers: head.headers.flatMap(({ name, value }) => [name, value]) };
}

/** Whether the head is taken through the proxy's door or on a connection that has its target. */
function isPlanned(head: RequestHead): boolean {
  const host = Host.parse("a.org");
  const doors: readonly Door[] = host === undefined ? [] : [{ kind: "proxy" }, { kind: "fixed", target: { host, port: 80 }, tls: false }];
  const takes = (act: () => unknown): boolean => {
    try {
      act();
      return true;
    } catch (error) {
      if (error instanceof Stop) return false;
      throw error;
    }
  };
  return head.method === "CONNECT" ? takes(() => connectTarget(head)) : doors.some((door) => takes(() => planOf(head, door)));
}

const byteText = (from: number, to: number): fc.Arbitrary<string> =>
  fc.integer({ min: from, max: to }).map((code) => String.fromCharCode(code));
const token = fc.stringMatching(/^[A-Za-z-]{1,8}$/);
const value = fc.oneof(
  fc.stringMatching(/^[ -~]{0,12}$/),
  fc.array(byteText(0, 255), { maxLength: 6 }).map((some) => some.join("")),
);
const line = fc.oneof(
  fc.tuple(token, fc.constantFrom(": ", ": ", ":", " : ", ":\t", ""), value).map((parts) => parts.join("")),
  fc.tuple(token, fc.stringMatching(/^[ -~]{0,12}$/)).map((parts) => parts.join(": ")),
  fc.constantFrom("Content-Length: 0", "Content-Length: 3", "Transfer-Encoding: chunked", "Host: b.org", " folded", "Connection: close"),
);
const request = fc
  .record({
    method: fc.constantFrom("GET", "POST", "PUT", "CONNECT", "get", "G T", "OPTIONS"),
    target: fc.oneof(
      fc.constantFrom("/", "http://a.org/", "a.org:443", "*", "/a b", "/\0"),
      fc.stringMatching(/^\/[!-~]{0,10}$/),
      fc.constant("/x?y"),
    ),
    version: fc.constantFrom("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1"),
    lines: fc.array(line, { maxLength: 3 }),
    end: fc.constantFrom("\r\n", "\r\n", "\r\n", "\n", "\r"),
  })
  .map(({ method, target, version, lines, end }) =>
    Buffer.from([`${method} ${target} ${version}`, "Host: a.org", ...lines, "", ""].join(end), "latin1"),
  );

/** The kept corpus, and what a few wrong bytes make of it. */
const smuggled = readFileSync(new URL("../attack/smuggling.txt", import.meta.url), "latin1")
  .split("\n")
  .filter((text) => text !== "" && !text.startsWith("#"))
  .map((text) => Buffer.from(JSON.parse(`"${text}"`) as string, "latin1"));

const sound = [
  "GET http://a.org/x?y HTTP/1.1\r\nHost: a.org\r\nAccept: */*\r\n\r\n",
  "POST http://a.org/ HTTP/1.1\r\nHost: a.org\r\nContent-Length: 3\r\n\r\nabc",
  "PUT /p HTTP/1.1\r\nHost: a.org\r\nTransfer-Encoding: chunked\r\nTE: x\r\n\r\n0\r\n\r\n",
  "CONNECT a.org:443 HTTP/1.1\r\nHost: a.org:443\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: a.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
].map((text) => Buffer.from(text));

verifies(
  "egress/strict-heads",
  "what our parser takes as a head, llhttp reads byte for byte alike",
  async () => {
    let taken = 0;
    await fuzzed(
      fc.asyncProperty(fc.oneof(request, changed(fc.constantFrom(...sound)), changed(fc.constantFrom(...smuggled))), async (bytes) => {
        const mine = ours(bytes);
        if (mine === "refused") return;
        taken += 1;
        const theirs = await llhttp(bytes);
        // It knows some methods alone: another one it has not read in a second way.
        if (theirs !== "refused" || METHODS.includes(mine.method)) expect(theirs).toEqual(mine);
      }),
      1_500,
    );
    expect(taken, "the corpus holds heads that are taken").toBeGreaterThan(50);
  },
  5_000 + LONGER_MS,
);

it("finds the end of a head however it is cut, and no end of one that is too long", () => {
  const bytes = Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest");
  for (let cut = 0; cut < bytes.length - 4; cut++) expect(headEnd(bytes.subarray(0, cut))).toBe(0);
  expect(headEnd(bytes)).toBe(bytes.length - 4);
  expect(headEnd(Buffer.alloc(MAX_HEAD_BYTES + 1, "a"))).toBe(-1);
  expect(headEnd(Buffer.from(`${"a: b\r\n".repeat(10_000)}\r\n`))).toBe(-1);
  expect(parseAnswerHead(Buffer.from("HTTP/1.1 200\r\n\r\n"))?.status).toBe(200);
  expect(parseAnswerHead(Buffer.from("HTTP/1.1 99 x\r\n\r\n"))).toBeUndefined();
});

describe("bodies", () => {
  const read = (reader: BodyReader, bytes: Buffer, size: number): { text: string; used: number } => {
    let text = "";
    let used = 0;
    for (let at = 0; at < bytes.length && !reader.done; at += size) {
      let piece = bytes.subarray(at, at + size);
      while (piece.length > 0 && !reader.done) {
        const { content, taken } = reader.take(piece);
        text += Buffer.concat(content).toString("latin1");
        used += taken;
        piece = piece.subarray(taken);
      }
    }
    return { text, used };
  };

  it("takes exactly the bytes of a body, however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 6 }),
        fc.integer({ min: 1, max: 50 }),
        (pieces, size) => {
          const content = Buffer.concat(pieces);
          const chunked = Buffer.concat([...pieces.map((piece) => framed(Buffer.from(piece), "chunked")), LAST_CHUNK, Buffer.from("GET ")]);
          for (const of of ["request", "answer"] as const)
            expect(read(new BodyReader({ kind: "chunked" }, of), chunked, size)).toEqual({
              text: content.toString("latin1"),
              used: chunked.length - 4,
            });
          const plain = Buffer.concat([content, Buffer.from("GET ")]);
          expect(read(new BodyReader({ kind: "length", bytes: content.length }, "request"), plain, size).used).toBe(content.length);
        },
      ),
    );
  });

  const CHUNKED = Buffer.from("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  const chunks = fc
    .tuple(
      fc.array(fc.stringMatching(/^[ -~]{1,20}$/), { maxLength: 4 }),
      fc.constantFrom("0\r\n\r\n", "0\r\nX: y\r\n\r\n", "0;x\r\n\r\n", ""),
    )
    .map(([pieces, last]) => Buffer.concat([...pieces.map((piece) => framed(Buffer.from(piece), "chunked")), Buffer.from(last)]));

  /** Content and bytes of a whole body; `undefined` when it is none, or not whole. */
  const whole = (reader: BodyReader, bytes: Buffer, size: number): { text: string; used: number } | undefined => {
    try {
      const found = read(reader, bytes, size);
      return reader.done ? found : undefined;
    } catch (error) {
      if (error instanceof BodyError) return undefined;
      throw error;
    }
  };

  verifies(
    "egress/strict-heads",
    "a body of chunks that is taken has the content and the end that llhttp finds, however it is cut",
    async () => {
      const next = Buffer.from("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
      let taken = 0;
      await fuzzed(
        fc.asyncProperty(fc.oneof(chunks, changed(chunks)), fc.integer({ min: 1, max: 9 }), async (body, size) => {
          const bytes = Buffer.concat([body, next]);
          const mine = whole(new BodyReader({ kind: "chunked" }, "request"), bytes, bytes.length);
          expect(whole(new BodyReader({ kind: "chunked" }, "request"), bytes, size)).toEqual(mine);
          if (mine === undefined) return;
          taken += 1;
          expect(await llhttpBodies(Buffer.concat([CHUNKED, bytes.subarray(0, mine.used), next]))).toEqual([`/ ${mine.text}`, "/next "]);
        }),
        300,
      );
      expect(taken).toBeGreaterThan(20);
    },
    5_000 + LONGER_MS,
  );

  verifies(
    "egress/strict-heads",
    "an answer that is taken is what llhttp reads: status, headers, content and end",
    async () => {
      const head = fc
        .record({
          status: fc.constantFrom("200 OK", "404", "204 No", "301 Moved", "200  ", "99 x", "2000 x"),
          lines: fc.array(fc.oneof(line, fc.constantFrom("Content-Length: 5", "Transfer-Encoding: chunked", "Location: /")), {
            maxLength: 3,
          }),
          body: fc.oneof(chunks, fc.constant(Buffer.from("hello"))),
        })
        .map(({ status, lines, body }) =>
          Buffer.concat([Buffer.from([`HTTP/1.1 ${status}`, ...lines, "", ""].join("\r\n"), "latin1"), body]),
        );
      let taken = 0;
      await fuzzed(
        fc.asyncProperty(fc.oneof(head, changed(head)), async (bytes) => {
          const end = headEnd(bytes);
          const answer = end > 0 ? parseAnswerHead(bytes.subarray(0, end)) : undefined;
          const framing = answer === undefined ? undefined : answerFraming(answer, "GET");
          // What asks to go on (1xx) is another answer's beginning.
          if (answer === undefined || framing === undefined || answer.status < 200) return;
          const mine = whole(new BodyReader(framing, "answer"), bytes.subarray(end), bytes.length);
          if (mine === undefined) return;
          const theirs = await llhttpAnswer(bytes.subarray(0, end + mine.used));
          // What llhttp refuses it has not read in a second way, and what goes on inside is framed anew.
          if (theirs === "refused") return;
          taken += 1;
          const headers = answer.headers.flatMap((header) => [header.name, header.value]);
          expect(theirs).toEqual({ status: answer.status, headers, text: mine.text });
        }),
        300,
      );
      expect(taken).toBeGreaterThan(20);
    },
    5_000 + LONGER_MS,
  );

  it("refuses in a request what is not a plain chunk", () => {
    for (const text of [
      "5;x=y\r\nhello\r\n0\r\n\r\n",
      "5 \r\nhello\r\n",
      "+5\r\n",
      "0x5\r\n",
      "-1\r\n",
      "\r\n",
      "5\nhello",
      "5\r\nhello5\r\n",
      "000000005\r\n",
      "0\r\nTrailer: x\r\n\r\n",
      "fffffffff\r\n",
    ])
      expect(() => read(new BodyReader({ kind: "chunked" }, "request"), Buffer.from(text), 100), JSON.stringify(text)).toThrow(BodyError);
    const loose = Buffer.from("5 ;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n");
    expect(read(new BodyReader({ kind: "chunked" }, "answer"), loose, 3)).toEqual({ text: "hello", used: loose.length });
  });
});
