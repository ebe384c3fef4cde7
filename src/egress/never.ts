// What is never reached whatever a rule says, and what only a `cidr` opens. Knows no rule and no sandbox.
// Invariant: an address that wraps another one is judged as strictly as what it wraps.

import { networkInterfaces } from "node:os";
import { type Address, address, contains, overlaps, parseRange, type Range, range } from "./address.ts";

/** `private`: only where a `cidr` of rule and ceiling says so. */
export type AddressKind = "public" | "private" | "never";

const NEVER: readonly Range[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16", // link-local, and most clouds' metadata
  "100.100.100.200/32", // metadata of Alibaba Cloud
  "168.63.129.16/32", // Azure's own
  "192.0.0.0/24", // IETF protocols; 192.0.0.192 is metadata of Oracle Cloud
  "192.88.99.0/24", // 6to4 relays
  "198.18.0.0/15", // names stand for addresses here inside a sandbox
  "224.0.0.0/4",
  "240.0.0.0/4", // with broadcast
  "::/96", // unspecified, loopback, and IPv4 in the oldest form
  "::ffff:0:0/96", // IPv4-mapped
  "::ffff:0:0:0/96", // IPv4-translated
  "64:ff9b:1::/48", // NAT64 of a local kind: what it wraps is not known
  "100::/64",
  "2001::/32", // Teredo
  "fd00:ec2::/32", // metadata of AWS
  "fd20:ce::254/128", // of Google Cloud
  "fd00:42::42/128", // of Scaleway
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
].map(range);

const PRIVATE: readonly Range[] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"].map(range);

/** Metadata services and this machine, by name; each with all below it. */
const NEVER_NAMES = [
  "localhost",
  "localdomain",
  "metadata",
  "metadata.google.internal",
  "metadata.goog",
  "instance-data",
  "instance-data.ec2.internal",
  "metadata.azure.com",
  "metadata.azure.internal",
  "metadata.tencentyun.com",
  "metadata.packet.net",
  "metadata.platformequinix.com",
  "metadata.oraclecloud.com",
  "rancher-metadata",
  "host.docker.internal",
  "gateway.docker.internal",
  "host.containers.internal",
];

/** Networks of containers and machines that this node runs: their neighbours are not outside. */
const SIBLING_INTERFACE = /^(?:docker|br-|veth|cni|cali|flannel|podman|virbr|vnet|lxc|lxd|incus|vmnet|vboxnet|nerdctl|corral)/;
const NAT64 = range("64:ff9b::/96");
const SIX_TO_FOUR = range("2002::/16");
const LOW_32 = 0xffff_ffffn;

export function isNeverName(name: string): boolean {
  return NEVER_NAMES.some((never) => name === never || name.endsWith(`.${never}`));
}

/** True when no address of the range could be reached. */
export function isNeverRange(asked: Range): boolean {
  return NEVER.some((never) => contains(never, asked));
}

/** True when all of the range is private. */
export function isPrivateRange(asked: Range): boolean {
  return PRIVATE.some((some) => contains(some, asked));
}

/** True when a part of the range is private. */
export function holdsPrivate(asked: Range): boolean {
  return PRIVATE.some((some) => overlaps(some, asked));
}

/** `own`: addresses of this node and networks of its containers. */
export function kindOf(asked: Address, own: readonly Range[]): AddressKind {
  if ([...NEVER, ...own].some((never) => contains(never, asked))) return "never";
  const wrapped = wrappedIn(asked);
  if (wrapped !== undefined) return kindOf(wrapped, own);
  return PRIVATE.some((some) => contains(some, asked)) ? "private" : "public";
}

function wrappedIn(asked: Address): Address | undefined {
  if (contains(NAT64, asked)) return address(4, asked.value & LOW_32);
  return contains(SIX_TO_FOUR, asked) ? address(4, (asked.value >> 80n) & LOW_32) : undefined;
}

/** Every address of this machine now, and the networks of its containers. */
export function ownRanges(interfaces: ReturnType<typeof networkInterfaces> = networkInterfaces()): Range[] {
  return Object.entries(interfaces).flatMap(([name, addresses = []]) =>
    addresses.flatMap(({ address: text, cidr }) => {
      const own = parseRange(text);
      const network = cidr === null || !SIBLING_INTERFACE.test(name) ? undefined : networkOf(cidr);
      return [own, network].filter((some) => some !== undefined);
    }),
  );
}

/** The range in which an interface's address lies. */
function networkOf(cidr: string): Range | undefined {
  const [text = "", prefix = ""] = cidr.split("/");
  const own = parseRange(text);
  if (own === undefined) return undefined;
  const shift = BigInt((own.family === 4 ? 32 : 128) - Number(prefix));
  return parseRange(`${address(own.family, (own.value >> shift) << shift).text}/${prefix}`);
}
