// Rules of a network as a command line writes them: `npm,pypi` and `HOST`, `HOST:PORT`, `RANGE:PORT`. Pure.
// Invariant: what cannot be read is refused by name; what a rule may be is judged where it holds.

import { CorralError } from "../api/errors.ts";
import { NETWORK_PRESETS, type NetworkPreset, type NetworkRule } from "../api/network.ts";

type Allowed = readonly (NetworkPreset | NetworkRule)[];

const TLS_PORT = 443;
const WORD = /^(?:\[(?<six>[0-9a-fA-F:]+(?:\/\d{1,3})?)\]|(?<name>[^:[\]\s]+))(?::(?<port>\d{1,5}))?$/;

export function readNetwork(presets: string | undefined, allow: readonly string[] = []): Allowed {
  return [...(presets === undefined ? [] : presets.split(",").map(preset)), ...allow.map(rule)];
}

/** As `--allow` takes it; `undefined`: more than a word says. */
export function wordOf(of: NetworkRule): string | undefined {
  const { ports = [TLS_PORT] } = of;
  const [port, ...more] = ports === "any" ? [] : ports;
  const name = "host" in of ? of.host : of.cidr.includes(":") ? `[${of.cidr}]` : of.cidr;
  if (port === undefined || more.length > 0 || ("host" in of && (of.methods ?? of.paths ?? of.secrets) !== undefined)) return undefined;
  return port === TLS_PORT ? name : `${name}:${port}`;
}

function preset(word: string): NetworkPreset {
  const found = NETWORK_PRESETS.find((name) => name === word);
  if (found === undefined)
    throw new CorralError("request_invalid", `--net: there is no ${JSON.stringify(word)}; there are ${NETWORK_PRESETS.join(", ")}`);
  return found;
}

function rule(word: string): NetworkRule {
  const { six, name = "", port: text } = WORD.exec(word)?.groups ?? {};
  const port = Number(text ?? TLS_PORT);
  if ((six === undefined && name === "") || port < 1 || port > 65_535)
    throw new CorralError("request_invalid", `--allow: expected HOST or HOST:PORT, got ${JSON.stringify(word)}`);
  const at = port === TLS_PORT ? {} : { ports: [port] };
  if (six !== undefined || /^\d+(\.\d+){3}(\/\d+)?$/.test(name)) return { cidr: six ?? name, ...at };
  // Whoever names another port means what is spoken there, which need not be TLS.
  return { host: name, ...at, ...(port === TLS_PORT ? {} : { tls: false }) };
}
