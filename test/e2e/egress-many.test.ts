// Many sandboxes at once, through relay and proxy: each program gets back what it sent. CORRAL_TEST_EGRESS=50 makes a thousand connections of it.

import { afterAll, beforeAll, expect } from "vitest";
import { EgressLab } from "../../src/attack/egress-lab.ts";
import { type NativeLab, openNativeLab, output } from "../fixtures/native-lab.ts";
import { verifies } from "../verifies.ts";

const BUILD_MS = 180_000;
const SANDBOXES = Number(process.env["CORRAL_TEST_EGRESS"] ?? 3);
const EACH = 20;
let outside: EgressLab;
let lab: NativeLab;

beforeAll(async () => {
  outside = new EgressLab();
  lab = await openNativeLab();
}, BUILD_MS);

afterAll(async () => {
  await lab.dispose();
  await outside[Symbol.asyncDispose]();
});

verifies(
  "egress/own-way",
  `${SANDBOXES * EACH} connections of ${SANDBOXES} sandboxes at once carry each what its own program sent`,
  async () => {
    const made = Array.from({ length: SANDBOXES }, async (_, n) => {
      await outside.tcp(`own${n}.example`, (peer) => peer.pipe(peer), 7);
      const socket = await outside.open(`sb-own-${n}`, outside.state({ allow: [{ host: `own${n}.example`, ports: [7], tls: false }] }));
      return await lab.make({ network: { socket } });
    });
    const containers = await Promise.all(made);
    const said = containers.map((container, n) => {
      // Asked again: a machine that is busy answers a name late.
      const find = `until at=$(getent ahostsv4 own${n}.example); do :; done; at=\${at%% *}`;
      const one = `exec 3<>/dev/tcp/$at/7; echo ${n}-$i >&3; head -1 <&3`;
      const others = `getent hosts own${(n + 1) % SANDBOXES}.example`;
      return output(container, ["bash", "-c", `${find}; for i in {1..${EACH}}; do (${one}) & done | sort -t- -k2n; ${others}; echo $?`]);
    });
    const whole = (n: number): string => Array.from({ length: EACH }, (_, i) => `${n}-${i + 1}\n`).join("");
    expect(await Promise.all(said)).toEqual(containers.map((_, n) => `${whole(n)}2\n`));
  },
);
