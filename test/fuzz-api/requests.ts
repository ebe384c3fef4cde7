// Requests made from an operation's schemas: as documented, nearly so, or hostile in their path, query, headers, body or framing.

import type { Chance } from "../faults/chance.ts";
import type { Operation } from "./document.ts";
import { good, hostile, type Pool, worse } from "./values.ts";

export interface Made {
  readonly bytes: Buffer;
  readonly method: string;
  readonly target: string;
  /** Its framing promises more than it sends, or is no HTTP: no answer is an answer. */
  readonly isBroken: boolean;
  /** Its own side is ended behind it. */
  readonly cut: boolean;
  readonly hasKey: boolean;
}

/** How a request is made wrong; most are right in all other ways, so that they get far. */
type Fault = "none" | "path" | "query" | "header" | "body" | "text" | "framing" | "key" | "method";
const FAULTS: readonly Fault[] = [
  "none",
  "none",
  "none",
  "path",
  "query",
  "header",
  "body",
  "body",
  "body",
  "text",
  "framing",
  "key",
  "method",
];

export interface MakeParts {
  readonly chance: Chance;
  readonly pool: Pool;
  readonly key: string;
}

export function make(operation: Operation, parts: MakeParts): Made {
  const { chance, key } = parts;
  const fault = chance.pick(FAULTS) ?? "none";
  const method =
    fault === "method"
      ? (chance.pick(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get", "M-SEARCH"]) ?? "GET")
      : operation.method;
  const target = targetOf(operation, parts, fault);
  const hasKey = fault !== "key";
  const { text, type } = bodyOf(operation, parts, fault);
  const headers = [
    "host: 127.0.0.1",
    "connection: close",
    ...(hasKey ? [`authorization: Bearer ${key}`] : (chance.pick(NO_KEYS) ?? [])),
    ...(chance.of(1, 5) ? [`idempotency-key: ${chance.pick(["k1", "k2", `k${chance.below(1_000)}`]) ?? ""}`] : []),
    ...(type === undefined ? [] : [`content-type: ${type}`]),
    ...(fault === "header" ? (chance.pick(ODD_HEADERS) ?? []) : []),
  ];
  const whole = { head: `${method} ${target} HTTP/1.1`, headers, body: Buffer.from(text ?? "") };
  const framed = fault === "framing" ? (chance.pick(FRAMINGS) ?? plain)(whole, chance) : plain(whole);
  return { method, target, hasKey, ...framed };
}

const NO_KEYS: readonly (readonly string[])[] = [
  [],
  ["authorization: Bearer"],
  ["authorization: Bearer ck000000000000000000000000000000000000000000"],
  ["authorization: Basic YWRtaW46YWRtaW4="],
  [`authorization: Bearer ${"k".repeat(8_000)}`],
  ["authorization: Bearer \xff\xfe"],
];

const ODD_HEADERS: readonly (readonly string[])[] = [
  ["accept: application/x-ndjson"],
  ["accept: \xff/\xfe"],
  ["origin: https://evil.example"],
  ["origin: null"],
  ["range: bytes=-0", "if-range: x"],
  ["range: bytes=99999999999999999999-"],
  ["expect: 100-continue"],
  ["expect: nothing"],
  ["upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="],
  ["upgrade: websocket", "connection: upgrade"],
  ["upgrade: h2c", "connection: upgrade, http2-settings", "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA"],
  ["last-event-id: -1"],
  ["last-event-id: 999999999999999999999"],
  ["idempotency-key: "],
  [`idempotency-key: ${"i".repeat(300)}`],
  ["content-encoding: gzip"],
  ["content-type: text/plain"],
  ["content-type: application/json; charset=utf-16"],
  ["content-type: multipart/form-data"],
  ["x-forwarded-for: 1.2.3.4, \xff", "x-forwarded-host: evil"],
  ["x-request-id: \xe2\x80\xae"],
  [`cookie: ${"c=1; ".repeat(1_000)}`],
  [`x-long: ${"l".repeat(70_000)}`],
  ["accept-version: 9"],
  ["host: evil.example"],
  ["transfer-encoding: gzip"],
  ["__proto__: x", "constructor: y"],
];

const ODD_SEGMENTS = [
  "",
  "%00",
  "%2e%2e",
  "..",
  "%",
  "%ff",
  "a%2fb",
  "*",
  ";",
  "sb00000000000000000000",
  "__proto__",
  "x".repeat(100),
  "x".repeat(20_000),
  "%E2%80%AE",
];

function targetOf({ path, parameters }: Operation, { chance, pool }: MakeParts, fault: Fault): string {
  const whole = path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => {
    if (fault === "path" && chance.of(1, 2)) return chance.pick(ODD_SEGMENTS) ?? "";
    const schema = parameters.find((parameter) => parameter.in === "path" && parameter.name === name)?.schema ?? {};
    return encodeURIComponent(pool(name === "id" ? ownerOf(path) : name) ?? String(good(schema, chance, pool, name)));
  });
  const query = parameters
    .filter((parameter) => parameter.in === "query" && (parameter.required || chance.of(likely(parameter.name), 10)))
    .map(({ name, schema }) => `${name}=${encodeURIComponent(asText(good(schema, chance, pool, name)))}`);
  if (fault === "query") {
    const name = chance.pick(parameters.filter((parameter) => parameter.in === "query"))?.name ?? "x";
    const bad = asText(hostile(chance)).slice(0, 4_000);
    query.push(
      chance.pick([
        `${name}=${encodeURIComponent(bad)}`,
        `${name}=%ff%00`,
        `${name}[]=1&${name}[a]=2`,
        name,
        `${name}=1&${name}=1`,
        "&&&=",
        "%",
      ]) ?? "",
    );
  }
  const odd = fault === "path" && chance.of(1, 4) ? (chance.pick(["//", "/./", "/../", `/${"a/".repeat(500)}`, "/%"]) ?? "") : "";
  return `${odd}${whole}${query.length === 0 ? "" : `?${query.join("&")}`}`;
}

/** Times of ten that an optional one is there: `base64` stands instead of `path`, and most files need one of them. */
function likely(name: string): number {
  return name === "base64" ? 1 : name === "path" ? 8 : 3;
}

/** What the `id` of a path names. */
function ownerOf(path: string): string {
  const noun = /^\/v1\/(codebase|template|token|snapshot|secret|sandbox)/.exec(path)?.[1];
  return noun ?? "sandbox";
}

function asText(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return Buffer.from(text).toString("utf8"); // lone surrogates cannot be encoded
}

interface Text {
  readonly text: Buffer | string | undefined;
  readonly type: string | undefined;
}

const JSON_TYPE = "application/json";
const BYTES_TYPE = "application/octet-stream";

function bodyOf({ method, body }: Operation, { chance, pool }: MakeParts, fault: Fault): Text {
  if (body === undefined) {
    if (method === "GET" && !chance.of(1, 20)) return { text: undefined, type: undefined };
    const bytes = chance.pick([Buffer.alloc(0), Buffer.from("hello"), Buffer.alloc(70_000, 1), Buffer.from('{"a":1}')]);
    return { text: bytes, type: chance.pick([BYTES_TYPE, BYTES_TYPE, JSON_TYPE, "application/x-tar", undefined, "x/y"]) };
  }
  const value = good(body, chance, pool);
  if (fault === "body")
    return { text: JSON.stringify(chance.of(1, 4) ? worse(worse(value, chance), chance) : worse(value, chance)), type: JSON_TYPE };
  if (fault === "text")
    return {
      text: (chance.pick(TEXTS) ?? (() => ""))(JSON.stringify(value)),
      type: chance.pick([JSON_TYPE, JSON_TYPE, BYTES_TYPE, undefined, "text/plain", "APPLICATION/JSON;;", "\xff"]),
    };
  return { text: JSON.stringify(value), type: JSON_TYPE };
}

/** What is nearly JSON. */
const TEXTS: readonly ((json: string) => Buffer | string)[] = [
  (json) => json.slice(0, -1),
  (json) => `${json}${json}`,
  (json) => `\ufeff${json}`,
  (json) => Buffer.from(json, "utf16le"),
  (json) => Buffer.concat([Buffer.from(json.slice(0, -1)), Buffer.from([0xff, 0xfe, 0x7d])]),
  () => "",
  () => "null",
  () => '"text"',
  () => "[]",
  () => "NaN",
  () => '{"__proto__":{"x":1}}',
  () => '{"constructor":{"prototype":{"x":1}}}',
  (json) => json.replace("{", '{"a":1e999,"a":-0,'),
  () => "[".repeat(50_000),
  () => '{"a":'.repeat(20_000),
  () => `${"[".repeat(20_000)}${"]".repeat(20_000)}`,
  () => `{"command":"${"x".repeat(2_000_000)}"}`,
];

interface Whole {
  readonly head: string;
  readonly headers: readonly string[];
  readonly body: Buffer;
}
type Framed = Pick<Made, "bytes" | "isBroken" | "cut">;

function joined(head: string, headers: readonly string[], body: Buffer | string): Buffer {
  return Buffer.concat([Buffer.from(`${[head, ...headers].join("\r\n")}\r\n\r\n`, "latin1"), Buffer.from(body as string)]);
}

function plain({ head, headers, body }: Whole): Framed {
  const length = body.length === 0 && head.startsWith("GET") ? [] : [`content-length: ${body.length}`];
  return { bytes: joined(head, [...headers, ...length], body), isBroken: false, cut: false };
}

const FRAMINGS: readonly ((whole: Whole, chance: Chance) => Framed)[] = [
  // Half of what was promised, then the end.
  ({ head, headers, body }) => ({
    bytes: joined(head, [...headers, `content-length: ${body.length * 2 + 10}`], body),
    isBroken: true,
    cut: true,
  }),
  ({ head, headers, body }) => ({
    bytes: joined(head, [...headers, "transfer-encoding: chunked"], `${(body.length + 5).toString(16)}\r\n${body.toString()}`),
    isBroken: true,
    cut: true,
  }),
  ({ head, headers, body }) => ({
    bytes: joined(
      head,
      [...headers, "transfer-encoding: chunked"],
      `${body.length.toString(16)}\r\n${body.toString("latin1")}\r\n0\r\n\r\n`,
    ),
    isBroken: true,
    cut: false,
  }),
  ({ head, headers }) => ({ bytes: joined(head, [...headers, "transfer-encoding: chunked"], "zz\r\n"), isBroken: true, cut: true }),
  ({ head, headers }) => ({
    bytes: joined(head, [...headers, "content-length: 3", "content-length: 4"], "abcd"),
    isBroken: true,
    cut: true,
  }),
  ({ head, headers }) => ({
    bytes: joined(head, [...headers, "content-length: 4", "transfer-encoding: chunked"], "0\r\n\r\n"),
    isBroken: true,
    cut: true,
  }),
  ({ head, headers }) => ({ bytes: joined(head, [...headers, "content-length: -1"], ""), isBroken: true, cut: true }),
  ({ head, headers }) => ({ bytes: joined(head, [...headers, "content-length: 99999999999999"], ""), isBroken: true, cut: true }),
  ({ head, headers }) => ({ bytes: joined(head.replace("HTTP/1.1", "HTTP/1.0"), headers, ""), isBroken: true, cut: false }),
  ({ head, headers }) => ({ bytes: joined(head.replace("HTTP/1.1", "HTTP/3.7"), headers, ""), isBroken: true, cut: true }),
  ({ head, headers }) => ({ bytes: joined(head.replace(" /", " http://evil.example/"), headers, ""), isBroken: true, cut: true }),
  ({ head }) => ({ bytes: joined(head, [], ""), isBroken: true, cut: true }),
  ({ head, headers }) => ({ bytes: joined(head, [...headers, "bad header", "x\0: y"], ""), isBroken: true, cut: true }),
  (whole, chance) => {
    const { bytes } = plain(whole);
    return { bytes: bytes.subarray(0, chance.below(bytes.length)), isBroken: true, cut: true };
  },
  (whole, chance) => {
    const bytes = Buffer.from(plain(whole).bytes);
    for (let n = 0; n < 4; n++) bytes[chance.below(bytes.length)] = chance.below(256);
    return { bytes, isBroken: true, cut: true };
  },
];
