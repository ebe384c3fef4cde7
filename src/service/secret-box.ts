// Seals values with a key of this node, and makes placeholders from it. AES-256-GCM; the key is a file of the data directory, mode 0600.
// What that protects: a copy of the database alone, a backup of it, a server of PostgreSQL and whoever reads its tables. What it does not:
// whoever reads the data directory, this process's memory or root of this machine reads every value; nor the age of a value, nor its length.
// Invariant: a sealed value opens only for the owner and id that it was sealed for; each purpose has a key of its own.

import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { CorralError } from "../api/errors.ts";
import { writeFileAtomic } from "../base/atomic-file.ts";

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Of what was sealed so; another way gets another one. */
const FORM = "1.";
const CIPHER = "aes-256-gcm";
const PLACEHOLDER_LETTERS = 40;

export class SecretBox {
  readonly #seal: Buffer;
  readonly #place: Buffer;
  readonly #tag: Buffer;

  constructor(key: Uint8Array) {
    const purpose = (name: string): Buffer => Buffer.from(hkdfSync("sha256", key, "", `corral ${name}`, KEY_BYTES));
    this.#seal = purpose("secrets at rest");
    this.#place = purpose("placeholders");
    this.#tag = purpose("repeated requests");
  }

  /** Over the node's key, which is made where there is none. Throws `data_unsafe` for a file that is none. */
  static open(file: string): SecretBox {
    return new SecretBox(readKey(file) ?? makeKey(file));
  }

  seal(value: string, subject: string): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#seal, nonce).setAAD(Buffer.from(subject));
    const sealed = Buffer.concat([nonce, cipher.update(value, "utf8"), cipher.final(), cipher.getAuthTag()]);
    return `${FORM}${sealed.toString("base64")}`;
  }

  /** Throws `secret_state` for what another key sealed, or for another subject. */
  unseal(sealed: string, subject: string): string {
    try {
      if (!sealed.startsWith(FORM)) throw new Error("another form");
      const bytes = Buffer.from(sealed.slice(FORM.length), "base64");
      const tag = bytes.subarray(-TAG_BYTES);
      const decipher = createDecipheriv(CIPHER, this.#seal, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
      decipher.setAAD(Buffer.from(subject)).setAuthTag(tag);
      const open = [decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()];
      return Buffer.concat(open).toString("utf8");
    } catch (cause) {
      throw new CorralError("secret_state", "a secret was sealed with another key than this node's; set its value again", { cause });
    }
  }

  /** What a sandbox holds instead of a value: random to whoever lacks the key, the same for one sandbox and name, so that nothing need keep it. */
  placeholder(sandboxId: string, name: string): string {
    const mac = createHmac("sha256", this.#place).update(`${sandboxId}\0${name}`).digest("hex");
    return `corral_${mac.slice(0, PLACEHOLDER_LETTERS)}`;
  }

  /** Stands for a value where two of them are compared. */
  tag(value: string): string {
    return createHmac("sha256", this.#tag).update(value).digest("hex");
  }
}

function readKey(file: string): Buffer | undefined {
  let key: Buffer;
  try {
    key = readFileSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  if (key.length !== KEY_BYTES)
    throw new CorralError(
      "data_unsafe",
      `${file} is no key of ${KEY_BYTES} bytes; put the right one back, or remove it and set every secret again`,
    );
  return key;
}

function makeKey(file: string): Buffer {
  const key = randomBytes(KEY_BYTES);
  writeFileAtomic(file, key, { sync: true });
  return key;
}
