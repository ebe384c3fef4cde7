// The two halves of egress together: programs in a sandbox, the guest's relay, the proxy, and a network that is made up. What each half does at its
// edges is tested beside it.

import { afterAll, beforeAll, expect } from "vitest";
import type { Container } from "../../src/runtime/runtime.ts";
import { EgressLab } from "../egress-lab.ts";
import { type NativeLab, openNativeLab, output, start } from "../fixtures/native-lab.ts";
import { verifies } from "../verifies.ts";

const BUILD_MS = 180_000;
let outside: EgressLab;
let lab: NativeLab;

beforeAll(async () => {
  outside = new EgressLab();
  await outside.http("plain.example", (request, response) => response.end(`plain ${request.url}\n`));
  await outside.tcp("echo.example", (socket) => socket.pipe(socket), 7);
  lab = await openNativeLab();
}, BUILD_MS);

afterAll(async () => {
  await lab.dispose();
  await outside[Symbol.asyncDispose]();
});

const say = (container: Container, command: string): Promise<string> => output(container, ["bash", "-c", command]);

verifies("egress/whole", "programs reach what a rule names, by the proxy and by its name alone, and nothing else by either", async () => {
  const socket = await outside.open(
    "sb-whole",
    outside.state({
      allow: [
        { host: "plain.example", ports: [80], tls: false },
        { host: "echo.example", ports: [7], tls: false },
      ],
    }),
  );
  const container = await lab.make({ network: { socket } });
  expect(await say(container, "curl -s http://plain.example/a")).toBe("plain /a\n");
  expect(await say(container, "curl -s --noproxy '*' http://plain.example/b")).toBe("plain /b\n");
  const echo = "exec 3<>/dev/tcp/echo.example/7; echo there and back >&3; head -1 <&3";
  expect(await say(container, echo)).toBe("there and back\n");
  expect(await say(container, "echo by connect | corral-connect echo.example 7")).toBe("by connect\n");
  expect(await say(container, "curl -s http://other.example/; curl -s --noproxy '*' http://other.example/; echo $?")).toMatch(
    /^corral: egress to other\.example:80 is not allowed[^\n]*\n6\n$/,
  );
  expect((await start(container, ["bash", "-c", "echo >/dev/tcp/plain.example/443"]).ended).stderr).toContain("Connection refused");
  const told = await outside.told(socket);
  expect(told).toContainEqual(
    expect.objectContaining({ way: "name", outcome: "allowed", host: "echo.example", process: expect.stringMatching(/^\d+:bash$/) }),
  );
});
