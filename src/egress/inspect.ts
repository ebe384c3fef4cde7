// Both ends of TLS that is read: the sandbox's, under this node's authority, and the upstream's, verified. Reads no HTTP.
// Invariant: no byte of a request goes to an upstream whose certificate was not verified for the very host.

import { createSecureContext, rootCertificates, TLSSocket, connect } from "node:tls";
import type { LeafMint } from "./certificate.ts";
import type { Connection, Upstream } from "./connection.ts";
import type { Host } from "./host.ts";
import { Stop } from "./stop.ts";

const PROTOCOL = "http/1.1";

/** Ends TLS of a sandbox whose hello was read and given back to the socket. Throws `Stop`. */
export async function tlsInside(connection: Connection, host: Host, mint: LeafMint): Promise<TLSSocket> {
  const { certificate, key } = mint.leaf(host.text, connection.gate.parts.clock.wallMs());
  const secureContext = createSecureContext({ cert: certificate, key, minVersion: "TLSv1.2" });
  const inner = new TLSSocket(connection.socket, { isServer: true, secureContext, ALPNProtocols: [PROTOCOL] });
  inner.on("error", () => inner.destroy());
  await settled(inner, "secure", () => new Stop("tls"));
  // SAFETY: what our parser read of the hello is what OpenSSL read of it.
  if (Reflect.get(inner, "servername") !== host.text) throw new Stop("sni");
  return inner;
}

/** TLS to an upstream, its certificate verified for the host. Throws `Stop`. */
export async function tlsUpstream(connection: Connection, { socket, target }: Upstream, upstreamCa: readonly string[]): Promise<TLSSocket> {
  connection.within(connection.gate.limits.connectMs);
  const outer = connect({
    socket,
    servername: target.host.text,
    ALPNProtocols: [PROTOCOL],
    minVersion: "TLSv1.2",
    rejectUnauthorized: true,
    ...(upstreamCa.length > 0 ? { ca: [...rootCertificates, ...upstreamCa] } : {}),
  });
  outer.on("error", () => outer.destroy());
  await settled(outer, "secureConnect", () => new Stop("certificate", target));
  // SAFETY: `rejectUnauthorized` has ended it before; this stands for the day on which an option is misspelt.
  if (!outer.authorized) throw new Stop("certificate", target);
  return outer;
}

function settled(socket: TLSSocket, event: "secure" | "secureConnect", stop: () => Stop): Promise<void> {
  return new Promise((resolve, reject) => {
    const onClose = (): void => reject(stop());
    socket.once("close", onClose);
    socket.once(event, () => {
      socket.off("close", onClose);
      resolve();
    });
    if (socket.destroyed) onClose();
  });
}
