// The box in which values are kept: what opens it, and what its key looks like on disk.

import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import { SecretBox } from "./secret-box.ts";

function codeOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return errorCode(error);
  }
  return "passed";
}

verifies(
  "server/secrets-sealed",
  "a value at rest opens with this node's key and for its own secret alone; the key is its user's file",
  () => {
    const dir = mkdtempSync("/tmp/corral-box-");
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    const file = join(dir, "secrets.key");
    const box = SecretBox.open(file);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const sealed = box.seal("a value of ours", "ann\0sec1");
    expect(Buffer.from(sealed.slice(2), "base64").toString("latin1")).not.toContain("value");
    expect(box.seal("a value of ours", "ann\0sec1")).not.toBe(sealed);
    expect(SecretBox.open(file).unseal(sealed, "ann\0sec1")).toBe("a value of ours");
    const changed = Buffer.from(sealed.slice(2), "base64");
    changed[20] = (changed[20] ?? 0) ^ 1;
    for (const [text, subject] of [
      [sealed, "bob\0sec1"],
      [sealed, "ann\0sec2"],
      [`1.${changed.toString("base64")}`, "ann\0sec1"],
      ["1.", "ann\0sec1"],
      [`2.${sealed.slice(2)}`, "ann\0sec1"],
    ] as const)
      expect(codeOf(() => box.unseal(text, subject))).toBe("secret_state");
    expect(codeOf(() => new SecretBox(new Uint8Array(32)).unseal(sealed, "ann\0sec1"))).toBe("secret_state");
    writeFileSync(file, "short");
    expect(codeOf(() => SecretBox.open(file))).toBe("data_unsafe");
  },
);

verifies("egress/placeholder-own", "a placeholder is one sandbox's and one secret's, and tells nothing of the value", () => {
  const box = new SecretBox(new Uint8Array(32).fill(1));
  const made = box.placeholder("sb1", "A");
  expect(made).toMatch(/^corral_[a-z0-9]{40}$/);
  expect(box.placeholder("sb1", "A")).toBe(made);
  const others = [box.placeholder("sb2", "A"), box.placeholder("sb1", "B"), new SecretBox(new Uint8Array(32)).placeholder("sb1", "A")];
  expect(new Set([made, ...others]).size).toBe(4);
});
