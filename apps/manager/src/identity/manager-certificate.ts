import { hostname } from "node:os";
import {
  createManagerCertificate,
  MANAGER_CERTIFICATE_SECONDS,
  type Authority,
  type ManagerCertificate,
} from "@farpool/identity/certificates";

const LOOK_MS = 60_000;

export interface KeptCertificate {
  readonly first: ManagerCertificate;
  /** Of the one that is shown now. */
  expiresAt(): Date;
  /** Looks at once whether another one is due: the authority may have changed. */
  look(): Promise<void>;
  /** Tells of each later one, until `stop`. */
  onRenewed(listener: (certificate: ManagerCertificate) => void): void;
  stop(): void;
}

interface Options {
  /** Who signs now. */
  readonly authority: () => Authority;
  /** Names and addresses for browsers, beside those of this machine. */
  readonly hosts: readonly string[];
  readonly time: () => Promise<Date>;
  readonly onError: (error: unknown) => void;
}

/** The certificate of this manager's HTTPS: made when it starts, replaced at half-life. */
export async function keepManagerCertificate(options: Options): Promise<KeptCertificate> {
  const { time, onError } = options;
  const hosts = [...new Set([hostname(), "localhost", "127.0.0.1", "::1", ...options.hosts])];
  let madeAt = await time();
  let authority = options.authority();
  const first = await createManagerCertificate(authority, { hosts, now: madeAt });
  let tell: (certificate: ManagerCertificate) => void = () => undefined;

  async function look(): Promise<void> {
    const now = await time();
    const isYoung = now.getTime() - madeAt.getTime() < (MANAGER_CERTIFICATE_SECONDS * 1_000) / 2;
    const signer = options.authority();
    if (isYoung && signer === authority) return;
    tell(await createManagerCertificate(signer, { hosts, now }));
    authority = signer;
    madeAt = now;
  }

  // A timer of a month would be missed by a machine that sleeps.
  const timer = setInterval(() => void look().catch(onError), LOOK_MS);
  timer.unref();
  return {
    first,
    look,
    expiresAt: () => new Date(madeAt.getTime() + MANAGER_CERTIFICATE_SECONDS * 1_000),
    onRenewed(listener) {
      tell = listener;
    },
    stop: () => clearInterval(timer),
  };
}
