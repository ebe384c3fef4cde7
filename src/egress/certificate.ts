// The authority of this node and the certificates it gives out for hosts whose requests are read: X.509 as it is written, never as it is
// read. Not a store. Invariant: a leaf is for one host and one week; the authority can make no other authority.

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";
import { certificatePem, integer, oid, sequence, time, tlv } from "./der.ts";

/** In PEM. The key is this node's secret. */
export interface Authority {
  readonly certificate: string;
  readonly key: string;
}

export interface Leaf {
  readonly certificate: string;
  readonly key: string;
  readonly untilMs: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const AUTHORITY_MS = 3_650 * DAY_MS;
const LEAF_MS = 7 * DAY_MS;
/** Clocks of sandboxes stand as the node's does; those of snapshots may lag. */
const BACKDATE_MS = DAY_MS;

const OID = {
  ecdsaSha256: "2a8648ce3d040302",
  commonName: "550403",
  subjectKey: "551d0e",
  keyUsage: "551d0f",
  subjectAlt: "551d11",
  basicConstraints: "551d13",
  authorityKey: "551d23",
  extendedUsage: "551d25",
  serverAuth: "2b06010505070301",
};

export function createAuthority(nowMs: number): Authority {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = nameOf(`Corral egress ${randomBytes(4).toString("hex")}`);
  const id = keyId(publicKey);
  const extensions = [
    extension(OID.basicConstraints, sequence(tlv(0x01, Buffer.from([0xff])), integer(Buffer.from([0]))), true),
    extension(OID.keyUsage, bits(1, 0x06), true), // keyCertSign, cRLSign
    extension(OID.subjectKey, tlv(0x04, id)),
  ];
  const body = { issuer: name, subject: name, publicKey, fromMs: nowMs - BACKDATE_MS, untilMs: nowMs + AUTHORITY_MS, extensions };
  return { certificate: signed(body, privateKey), key: privateKey.export({ type: "pkcs8", format: "pem" }) };
}

/** Makes leaves and keeps those that are used. */
export class LeafMint {
  readonly #authority: Authority;
  readonly #key: KeyObject;
  readonly #issuer: Buffer;
  readonly #issuerId: Buffer;
  /** One for all hosts of this process: who has the one has the others. */
  readonly #leafKeys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  readonly #leaves = new Map<string, Leaf>();
  readonly #capacity: number;

  constructor(authority: Authority, capacity = 1_024) {
    this.#authority = authority;
    this.#capacity = capacity;
    this.#key = createPrivateKey(authority.key);
    const certificate = new X509Certificate(authority.certificate);
    const [, name = ""] = /^CN=(.*)$/m.exec(certificate.subject) ?? [];
    this.#issuer = nameOf(name);
    this.#issuerId = keyId(createPublicKey(this.#key));
  }

  /** `host`: a canonical name. */
  leaf(host: string, nowMs: number): Leaf {
    const known = this.#leaves.get(host);
    this.#leaves.delete(host);
    const leaf = known !== undefined && known.untilMs - nowMs > LEAF_MS / 2 ? known : this.#make(host, nowMs);
    this.#leaves.set(host, leaf);
    const [oldest] = this.#leaves.keys();
    if (this.#leaves.size > this.#capacity && oldest !== undefined) this.#leaves.delete(oldest);
    return leaf;
  }

  #make(host: string, nowMs: number): Leaf {
    const untilMs = nowMs + LEAF_MS;
    const extensions = [
      extension(OID.basicConstraints, sequence(), true),
      extension(OID.keyUsage, bits(7, 0x80), true), // digitalSignature
      extension(OID.extendedUsage, sequence(oid(OID.serverAuth))),
      extension(OID.subjectAlt, sequence(tlv(0x82, Buffer.from(host, "latin1")))),
      extension(OID.authorityKey, sequence(tlv(0x80, this.#issuerId))),
    ];
    const { publicKey, privateKey } = this.#leafKeys;
    const body = { issuer: this.#issuer, subject: nameOf("Corral egress"), publicKey, fromMs: nowMs - BACKDATE_MS, untilMs, extensions };
    const key = privateKey.export({ type: "pkcs8", format: "pem" });
    return { certificate: `${signed(body, this.#key)}${this.#authority.certificate}`, key, untilMs };
  }
}

interface Body {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly publicKey: KeyObject;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly extensions: readonly Buffer[];
}

function signed({ issuer, subject, publicKey, fromMs, untilMs, extensions }: Body, key: KeyObject): string {
  const algorithm = sequence(oid(OID.ecdsaSha256));
  const serial = randomBytes(16);
  serial.writeUInt8((serial.readUInt8(0) & 0x7f) | 0x40, 0); // positive, and of full length
  const body = sequence(
    tlv(0xa0, integer(Buffer.from([2]))),
    integer(serial),
    algorithm,
    issuer,
    sequence(time(fromMs), time(untilMs)),
    subject,
    publicKey.export({ type: "spki", format: "der" }),
    tlv(0xa3, sequence(...extensions)),
  );
  const signature = sign("sha256", body, { key, dsaEncoding: "der" });
  const der = sequence(body, algorithm, tlv(0x03, Buffer.concat([Buffer.from([0]), signature])));
  return certificatePem(der);
}

function bits(unused: number, byte: number): Buffer {
  return tlv(0x03, Buffer.from([unused, byte]));
}

function nameOf(commonName: string): Buffer {
  return sequence(tlv(0x31, sequence(oid(OID.commonName), tlv(0x0c, Buffer.from(commonName)))));
}

function extension(id: string, content: Buffer, isCritical = false): Buffer {
  return sequence(oid(id), ...(isCritical ? [tlv(0x01, Buffer.from([0xff]))] : []), tlv(0x04, content));
}

/** SHA-1 of the key's bits, as a name for it (RFC 5280, 4.2.1.2). */
function keyId(publicKey: KeyObject): Buffer {
  const { x = "", y = "" } = publicKey.export({ format: "jwk" });
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]);
  return createHash("sha1").update(point).digest();
}
