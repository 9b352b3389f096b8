import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { FarpoolError, type MachineCertificate } from "@farpool/contract";
import { authorityHashes } from "./authority.ts";
import { createClient } from "./client.ts";
import type { MachineCredentials, ManagerAddress } from "./address.ts";
import { readMembership, writePrivate, type Membership } from "./membership.ts";

/** Who renews is done or dead by then. */
const LOCK_STALE_MS = 60_000;
const RENEWAL_TIMEOUT_MS = 10_000;
/** While the pool has two authorities: a day after one has taken over, the other is to be trusted no longer, here too. */
const CHANGING_SECONDS = 2 * 86_400;
/** How often it is looked whether the time has come: a machine that slept missed its timers. */
const LOOK_MS = 60_000;

export interface MembershipFiles {
  readonly membership: string;
  readonly key: string;
}

/** What came with a certificate, by this machine's clock. */
export function toMembership(
  { validSeconds, ...certificate }: MachineCertificate,
  { host, port, now }: { readonly host: string; readonly port: number; readonly now: number },
): Membership {
  const at = (seconds: number): string => new Date(now + seconds * 1_000).toISOString();
  const isChanging = authorityHashes(certificate.authority).length > 1;
  const renewSeconds = isChanging ? Math.min(validSeconds / 2, CHANGING_SECONDS) : validSeconds / 2;
  const times = { renewAt: at(renewSeconds), expiresAt: at(validSeconds) };
  return { ...certificate, host, port, ...times, machine: null };
}

/** A machine's place in its pool, as long as a process of it lives. */
export interface OpenMembership {
  readonly membership: Membership;
  /** How the manager is reached; the certificate is the newest one. */
  address(token?: string | null): ManagerAddress;
  /** Renews at half-life, if no other process of this machine has done so. Throws when it should and cannot. */
  renewIfDue(): Promise<void>;
  /** Looks every minute until the signal aborts. */
  keep(signal: AbortSignal, onError: (error: unknown) => void): void;
}

/** Undefined: this machine has not joined. */
export function openMembership(
  files: MembershipFiles,
  now: () => number = Date.now,
): OpenMembership | undefined {
  const first = readMembership(files.membership);
  if (first === undefined) return undefined;
  let held = first;
  const privateKey = readKey(files.key);
  const credentials = (): MachineCredentials => ({
    certificate: held.certificate,
    privateKey,
    authority: held.authority,
  });
  let hashes = authorityHashes(held.authority);

  const isDue = (): boolean => now() >= Date.parse(held.renewAt);

  function hold(membership: Membership): void {
    held = membership;
    hashes = authorityHashes(held.authority);
  }

  /** The pool has an authority that this machine does not know: with the next certificate it will. */
  function onAuthority(hash: string): void {
    if (hashes.includes(hash)) return;
    // Written beside another process's renewal, it would bring back the certificate before, as a copy of the machine has it.
    // What fails is heard of again with the next answer.
    locked(files.membership, now, () => Promise.resolve(becomeDue(hash))).catch(() => undefined);
  }

  function becomeDue(hash: string): void {
    hold(readMembership(files.membership) ?? held);
    if (hashes.includes(hash) || isDue()) return;
    const dueNow = { ...held, renewAt: new Date(now()).toISOString() };
    hold(dueNow);
    // For whichever process of this machine is the next to look.
    writePrivate(files.membership, dueNow);
  }

  async function renewIfDue(): Promise<void> {
    if (!isDue()) return;
    hold(readMembership(files.membership) ?? held);
    if (!isDue()) return;
    await locked(files.membership, now, async () => {
      hold(readMembership(files.membership) ?? held);
      if (!isDue()) return;
      const client = createClient(addressOf(held, credentials));
      try {
        const renewed = await client.call("renewMachine", {}, { timeoutMs: RENEWAL_TIMEOUT_MS });
        const { host, port, machine } = held;
        hold({ ...toMembership(renewed, { host, port, now: now() }), machine });
        writePrivate(files.membership, held);
      } finally {
        client.close();
      }
    });
  }

  return {
    membership: first,
    address: (token = null) => ({ ...addressOf(held, credentials, token), onAuthority }),
    async renewIfDue() {
      try {
        await renewIfDue();
      } catch (error) {
        // As long as the old one is good, nothing is lost: the next command tries again.
        const isLost = error instanceof FarpoolError && error.code === "FARPOOL_CERTIFICATE";
        if (isLost || now() >= Date.parse(held.expiresAt)) throw error;
      }
    },
    keep(signal, onError) {
      const timer = setInterval(() => void renewIfDue().catch(onError), LOOK_MS);
      timer.unref();
      signal.addEventListener("abort", () => clearInterval(timer), { once: true });
    },
  };
}

function addressOf(
  { host, port, authority }: Membership,
  credentials: () => MachineCredentials,
  token: string | null = null,
): Extract<ManagerAddress, { kind: "https" }> {
  return { kind: "https", host, port, authority, token, credentials };
}

function readKey(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new FarpoolError(
      "FARPOOL_UNAVAILABLE",
      `this machine has joined, but its key ${file} cannot be read`,
      {
        hint: "'farpool leave --forget', then 'farpool join' with a new string",
        cause,
      },
    );
  }
}

/** Of several processes of one machine one renews; two would look like a machine and its copy. */
async function locked(file: string, now: () => number, work: () => Promise<void>): Promise<void> {
  const lock = `${file}.lock`;
  try {
    writeFileSync(lock, String(process.pid), { flag: "wx", mode: 0o600 });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    const status = statSync(lock, { throwIfNoEntry: false });
    // Another one is at it; this certificate is good for now, or the next look finds the new one.
    if (status !== undefined && Math.abs(now() - status.mtimeMs) < LOCK_STALE_MS) return;
    rmSync(lock, { force: true });
    return locked(file, now, work);
  }
  try {
    await work();
  } finally {
    rmSync(lock, { force: true });
  }
}
