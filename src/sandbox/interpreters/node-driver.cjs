// The JavaScript side of a context: takes cells from descriptor 3, runs them in one global scope as a REPL does, tells what came of them on
// descriptor 4 (wire.ts). It runs inside the sandbox beside the code that it runs, so nothing it says is believed beyond its own context.
// Invariant: what it tells carries the word that its call came with, in pieces that the kernel writes whole. It is sent, never read as a file.
"use strict";
const fs = require("node:fs");
const inspector = require("node:inspector");
const nodeModule = require("node:module");
const net = require("node:net");
const util = require("node:util");
const vm = require("node:vm");

const PIECE_BYTES = 4096;
const TEXT_MAX = 1 << 20;
const JSON_TEXT_MAX = 1 << 16;
const BUNDLE_MAX = 8 << 20;
const DISPLAY = Symbol.for("Jupyter.display");
const HOLDER = Symbol.for("corral.holder");
const { parse, stringify } = JSON;
const { writeSync } = fs;

const session = new inspector.Session();
let word = "";
let interrupt;
let input = [];

function tell(kind, value) {
  const data = Buffer.from(stringify(value).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`));
  const head = Buffer.from(`\n${word}${kind}`);
  const room = PIECE_BYTES - head.length - 2;
  for (let at = 0; at < data.length; at += room) {
    const more = at + room < data.length ? "+" : ".";
    writeSync(4, Buffer.concat([head, Buffer.from(more), data.subarray(at, at + room), Buffer.from("\n")]));
  }
}

function cut(text, most) {
  return text.length <= most ? text : `${text.slice(0, most)}\n… ${text.length - most} more characters`;
}

function asJson(value, text) {
  const isPlain =
    value !== null && typeof value === "object" && (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype);
  if (!isPlain || text.length > JSON_TEXT_MAX) return {};
  try {
    return { "application/json": parse(stringify(value)) };
  } catch {
    return {};
  }
}

function bundleOf(value) {
  const own = typeof value?.[DISPLAY] === "function" ? value[DISPLAY]() : {};
  const text = cut(String(own["text/plain"] ?? util.inspect(value)), TEXT_MAX);
  const bundle = { ...asJson(value, text), ...own, "text/plain": text };
  if (stringify(bundle).length <= BUNDLE_MAX) return bundle;
  return { "text/plain": `${cut(text, 1000)}\n… what else it shows is left out: it is too large` };
}

function post(method, params) {
  return new Promise((resolve, reject) => {
    session.post(method, params, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** By way of one object that both sides know: the inspector's answers name values, they do not hold them. */
async function valueOf(remote) {
  const { result } = await post("Runtime.evaluate", { expression: `globalThis[Symbol.for("corral.holder")]` });
  const given =
    "objectId" in remote
      ? { objectId: remote.objectId }
      : "unserializableValue" in remote
        ? { unserializableValue: remote.unserializableValue }
        : { value: remote.value };
  const functionDeclaration = "function (value) { this.value = value; }";
  await post("Runtime.callFunctionOn", { objectId: result.objectId, functionDeclaration, arguments: [given] });
  const { value } = holder;
  holder.value = undefined;
  await post("Runtime.releaseObject", { objectId: result.objectId });
  if ("objectId" in remote) await post("Runtime.releaseObject", { objectId: remote.objectId });
  return value;
}

const holder = {};
Object.defineProperty(globalThis, HOLDER, { value: holder });

class Interrupted extends Error {
  name = "Interrupted";
}

function evaluated(expression) {
  return new Promise((resolve, reject) => {
    interrupt = () => reject(new Interrupted("the call was interrupted"));
    holder.evaluate = () =>
      session.post("Runtime.evaluate", { expression, replMode: true }, (error, answer) => (error ? interrupt() : resolve(answer)));
    try {
      // Under it SIGINT ends code that never yields.
      vm.runInThisContext(`globalThis[Symbol.for("corral.holder")].evaluate()`, { breakOnSigint: true });
    } catch {
      interrupt();
    }
  });
}

function toldError(error) {
  const isError = error instanceof Error || (typeof error === "object" && error !== null && typeof error.stack === "string");
  if (!isError)
    return { name: "Error", value: cut(util.inspect(error), TEXT_MAX), traceback: cut(`Uncaught ${util.inspect(error)}\n`, TEXT_MAX) };
  if (error instanceof Interrupted) return { name: error.name, value: error.message, traceback: `${error.name}: ${error.message}\n` };
  const lines = String(error.stack).split("\n");
  const ours = lines.findIndex((line) => /^\s+at (?:Session\.post|holder\.evaluate|evaluated|Script\.runInThisContext)\b/.test(line));
  const traceback = `${(ours < 0 ? lines : lines.slice(0, ours)).join("\n")}\n`;
  return { name: String(error.name), value: cut(String(error.message), TEXT_MAX), traceback: cut(traceback, TEXT_MAX) };
}

function source({ code, language }) {
  // An older Node.js runs what has no types; what has some is a syntax error, which is told with the reason.
  if (language !== "typescript" || nodeModule.stripTypeScriptTypes === undefined) return code;
  const { emitWarning } = process;
  process.emitWarning = () => undefined; // that it is experimental
  try {
    return nodeModule.stripTypeScriptTypes(code);
  } finally {
    process.emitWarning = emitWarning;
  }
}

function withReason({ language }, error) {
  if (language !== "typescript" || error.name !== "SyntaxError" || nodeModule.stripTypeScriptTypes !== undefined) return error;
  return { ...error, value: `${error.value} (this is Node.js ${process.version}; types need 22.13 or later)` };
}

async function run(request) {
  const end = { status: "ok", error: null };
  const before = Object.keys(request.env).map((name) => [name, process.env[name]]);
  input = request.input === undefined ? [] : request.input.split("\n");
  try {
    Object.assign(process.env, request.env);
    const { result, exceptionDetails } = await evaluated(`${source(request)}\n//# sourceURL=cell-${request.count}`);
    const value = await valueOf(exceptionDetails?.exception ?? result);
    if (exceptionDetails !== undefined) Object.assign(end, { status: "error", error: withReason(request, toldError(value)) });
    else if (value !== undefined) tell("R", { mime: bundleOf(value), isMain: true });
  } catch (error) {
    const isInterrupted = error instanceof Interrupted;
    Object.assign(end, { status: isInterrupted ? "interrupted" : "error", error: toldError(error) });
  }
  interrupt = undefined;
  for (const [name, value] of before) value === undefined ? delete process.env[name] : (process.env[name] = value);
  tell("E", end);
}

function begin() {
  session.connect();
  process.on("SIGINT", () => interrupt?.());
  process.on("uncaughtException", (error) => process.stderr.write(`Uncaught ${util.inspect(error)}\n`));
  process.on("unhandledRejection", (error) => process.stderr.write(`Uncaught (in promise) ${util.inspect(error)}\n`));
  Object.assign(globalThis, {
    require: nodeModule.createRequire(`${process.cwd()}/`),
    display: (...values) => values.forEach((value) => tell("R", { mime: bundleOf(value), isMain: false })),
    /** The next line of the call's input; null when there is none. */
    prompt: (question) => {
      if (question !== undefined) process.stdout.write(String(question));
      return input.shift() ?? null;
    },
  });
}

async function handle(message) {
  word = message.word;
  if (message.op === "run") return await run(message);
  begin();
  tell("E", { status: "ok", error: null });
}

let held = Buffer.alloc(0);
new net.Socket({ fd: 3, readable: true, writable: false })
  .on("data", (chunk) => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 4 && held.length >= 4 + held.readUInt32LE(0)) {
      const end = 4 + held.readUInt32LE(0);
      void handle(parse(held.toString("utf8", 4, end)));
      held = held.subarray(end);
    }
  })
  .on("end", () => process.exit(0));
