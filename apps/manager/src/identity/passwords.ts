import { argon2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

const derive = promisify(argon2);
/** As OWASP recommends for argon2id: 19 MiB, two passes. */
const COST = { memory: 19_456, passes: 2, parallelism: 1, tagLength: 32 } as const;

const unpadded = (bytes: Buffer): string => bytes.toString("base64").replaceAll("=", "");

/** `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`: the usual text, which names its own cost. */
export async function hashPassword(password: string): Promise<string> {
  const nonce = randomBytes(16);
  const tag = await derive("argon2id", { ...COST, message: normal(password), nonce });
  const { memory, passes, parallelism } = COST;
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${unpadded(nonce)}$${unpadded(tag)}`;
}

/** Takes the same time when there is no hash: who asks learns nothing about which users exist. */
export async function passwordMatches(password: string, hash: string | null): Promise<boolean> {
  const match = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/.exec(
    hash ?? "",
  );
  const [memory, passes, parallelism] = [match?.[1], match?.[2], match?.[3]].map(Number);
  const expected = Buffer.from(match?.[5] ?? "", "base64");
  const tag = await derive("argon2id", {
    memory: match === null ? COST.memory : (memory ?? COST.memory),
    passes: match === null ? COST.passes : (passes ?? COST.passes),
    parallelism: match === null ? COST.parallelism : (parallelism ?? COST.parallelism),
    tagLength: match === null ? COST.tagLength : expected.length,
    message: normal(password),
    nonce: match === null ? Buffer.alloc(16) : Buffer.from(match[4] ?? "", "base64"),
  });
  return match !== null && timingSafeEqual(tag, expected);
}

/** The same letters typed on another keyboard may be other code points. */
function normal(password: string): Buffer {
  return Buffer.from(password.normalize("NFKC"));
}
