// Writes docs/errors.md from the table of codes. The table is the source: what the page says beyond it stands in this file.
// Invariant: one row for each code, in the order of the table.

import { ERROR_KINDS, type Fault } from "../../src/api/errors.ts";

const FAULTS: Readonly<Record<Fault, string>> = {
  caller: "the request",
  state: "the moment",
  node: "this machine",
  corral: "a defect of Corral",
};

/** The whole page. */
export function errorsPage(): string {
  const rows = Object.entries(ERROR_KINDS).map(
    ([code, kind]) =>
      `| \`${code}\` | ${kind.status} | ${FAULTS[kind.fault]} | ${kind.retry === "later" ? "later" : "no"} | ${kind.meaning} |`,
  );
  return `# Errors

Generated from \`src/api/errors.ts\`; \`./corral check --fix\` writes it anew.

Corral throws one class of error. Tell errors apart by \`code\`, never by \`instanceof\` and never by the message. The message says what failed, why, and
what to do. A program that fails is no error: its exit code is a result. On the command line, an error of Corral's own ends \`run\` with 125 and
other commands with 1; a wrong command line ends with 2.

"Again" says whether the same call may pass later.

| code | HTTP | caused by | again | meaning |
|---|---|---|---|---|
${rows.join("\n")}
`;
}
