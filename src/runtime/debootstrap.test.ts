// debootstrap of this machine, against mirrors that are none, and with CORRAL_TEST_MIRROR=1 against the machine's own (minutes).

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import { debootstrap, type DebootstrapRequest } from "./debootstrap.ts";

let dir: string;
beforeAll(() => void (dir = mkdtempSync("/tmp/corral-debootstrap-")));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function request(more: Partial<DebootstrapRequest> = {}): DebootstrapRequest {
  const usual = { suite: "bookworm", variant: "minbase", include: [], mirror: `file://${dir}/none`, onStep: () => undefined };
  return { ...usual, dir: join(dir, "root"), signal: new AbortController().signal, ...more };
}

const HERE = existsSync("/usr/share/debootstrap/scripts/bookworm") && process.getuid?.() === 0;

describe("debootstrap", () => {
  verifies(
    "template/debootstrap-words",
    "words from outside are the names of suites and packages, or refused before anything is started",
    async () => {
      for (const suite of ["--foreign", "../x", "a b", "", "x".repeat(60)])
        await expect(debootstrap(request({ suite }))).rejects.toMatchObject({ code: "request_invalid" });
      for (const name of ["--unpack-tarball=x", "a,b", "a b", "/x", "$(x)", ""])
        await expect(debootstrap(request({ include: [name] }))).rejects.toMatchObject({ code: "request_invalid" });
    },
  );

  verifies("template/debootstrap-fails", "a mirror that does not answer is told with its reason, and nothing is left", async (context) => {
    if (!HERE) context.skip("no debootstrap here, or not root");
    const failed = await debootstrap(request()).catch((error: unknown) => error);
    expect([errorCode(failed), String(failed)]).toEqual(["template_failed", expect.stringContaining("none")]);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(dir);
    const stop = AbortSignal.abort();
    await expect(debootstrap(request({ dir: join(dir, "stopped"), signal: stop }))).rejects.toMatchObject({ code: "canceled" });
  });

  verifies(
    "template/debootstrap-root",
    "packages of the machine's mirror make a root, step by step, and a stop leaves no mount and no process",
    async (context) => {
      if (!HERE) context.skip("no debootstrap here, or not root");
      if (process.env["CORRAL_TEST_MIRROR"] !== "1") context.skip("set CORRAL_TEST_MIRROR=1 to install packages from the machine's mirror");
      const { mirror: _, ...own } = request({ dir: join(dir, "stop") });
      const stop = new AbortController();
      let steps = 0;
      const stopped = debootstrap({
        ...own,
        signal: stop.signal,
        onStep: () => {
          if (++steps > 20) stop.abort();
        },
      });
      await expect(stopped).rejects.toMatchObject({ code: "canceled" });
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(dir);
      const root = join(dir, "whole");
      const told: string[] = [];
      await debootstrap({ ...own, dir: root, onStep: (step) => void told.push(step) });
      expect(told.length).toBeGreaterThan(50);
      expect(readFileSync(join(root, "etc/debian_version"), "utf8")).toMatch(/^12/);
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(dir);
    },
    900_000,
  );
});
