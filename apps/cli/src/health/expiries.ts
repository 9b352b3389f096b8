import { X509Certificate } from "node:crypto";
import type { ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  formatDuration,
  type AuthorityState,
  type Machine,
  type Server,
} from "@farpool/contract";
import { poolFolders } from "@farpool/layout";
import { currentSignIn, openClientMembership, openServerMembership } from "../core/pool-client.ts";
import { fail, pass, warning, type Check } from "../doctor/check.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Something that ends by itself, what is late about it when, and what to do then. */
export interface Expiry {
  readonly name: string;
  readonly what: string;
  readonly at: string;
  /** Less time than this is a warning: by then it should have been renewed. */
  readonly lateMs: number;
  readonly hint: string;
  /** Once it is over nothing works, or only what is named. */
  readonly isFatal: boolean;
}

/** Machine certificates are renewed at half of their 30 days, workers' at half of their one. */
const LATE_MACHINE_MS = 10 * DAY_MS;
const LATE_WORKER_MS = 6 * HOUR_MS;
/** Ten years are long, and spreading another authority takes a while. */
const LATE_AUTHORITY_MS = 365 * DAY_MS;
const LATE_SIGN_IN_MS = DAY_MS;

/** All that ends of the pool, as far as this person may see it. */
export async function poolExpiries(client: ManagerClient): Promise<readonly Expiry[]> {
  const [state, { servers }, machines] = await Promise.all([
    client.call("authorityState", {}),
    client.call("listServers", {}),
    listMachines(client),
  ]);
  return [...authorityExpiries(state), ...machineExpiries(machines), ...workerExpiries(servers)];
}

/** Who is no administrator sees its own machine's only. */
async function listMachines(client: ManagerClient): Promise<readonly Machine[]> {
  try {
    return (await client.call("listMachines", {})).machines;
  } catch (error) {
    if (error instanceof FarpoolError && error.code === "FARPOOL_NOT_PERMITTED") return [];
    throw error;
  }
}

export function authorityExpiries(state: AuthorityState): readonly Expiry[] {
  return [
    ...state.authorities
      .filter(({ role }) => role !== "retiring")
      .map(({ expiresAt, role }) => ({
        name: "authority",
        what:
          role === "presented" ? "the pool's certificate authority" : "the pool's next certificate authority",
        at: expiresAt,
        lateMs: LATE_AUTHORITY_MS,
        hint: "'farpool admin ca rotate' makes another, which takes over while everything goes on",
        isFatal: true,
      })),
    {
      name: "manager",
      what: "the manager's certificate",
      at: state.managerCertificateExpiresAt,
      lateMs: LATE_MACHINE_MS,
      hint: "it renews itself at half of its 30 days: look at the manager's log, or start it anew",
      isFatal: true,
    },
  ];
}

function machineExpiries(machines: readonly Machine[]): readonly Expiry[] {
  return machines
    .filter(({ revokedAt }) => revokedAt === null)
    .map(({ role, name, certificateExpiresAt }) => ({
      name: `${role} ${name}`,
      what: `the certificate of the ${role} ${name}`,
      at: certificateExpiresAt,
      lateMs: LATE_MACHINE_MS,
      hint: `it renews itself while the machine is on, and for 180 days after its end; 'farpool ${role}s remove ${name}' if it is gone`,
      isFatal: false,
    }));
}

export function workerExpiries(servers: readonly Server[]): readonly Expiry[] {
  return servers.flatMap(({ name, host }) => {
    const at = host?.workerCertificateExpiresAt ?? null;
    if (at === null) return [];
    const hint = "its agent renews it at half of its day: look at the agent's log";
    const what = `the workers' certificate of ${name}`;
    return [{ name: `workers of ${name}`, what, at, lateMs: LATE_WORKER_MS, hint, isFatal: true }];
  });
}

/** What ends on this machine, whether or not the pool can be reached. */
export function ownExpiries(): readonly Expiry[] {
  const folders = poolFolders();
  const memberships = [openClientMembership(folders), openServerMembership(folders)];
  const joined = memberships.flatMap((open) => {
    if (open === undefined) return [];
    const { role, name, expiresAt, authority } = open.membership;
    return [
      {
        name: `own ${role}`,
        what: `this machine's certificate as the ${role} ${name}`,
        at: expiresAt,
        lateMs: LATE_MACHINE_MS,
        hint: "any 'farpool' command renews it while the manager can be reached; after 180 days 'farpool join' is needed",
        isFatal: false,
      },
      {
        name: `own ${role} trusts`,
        what: `the authority that this machine trusts as the ${role} ${name}`,
        at: lastOf(authority),
        lateMs: LATE_AUTHORITY_MS,
        hint: "with its next certificate this machine gets the pool's newest authority",
        isFatal: true,
      },
    ];
  });
  const signedIn = currentSignIn(folders);
  if (signedIn === undefined) return joined;
  const what = `the sign-in of ${signedIn.user}`;
  const hint = "'farpool login' signs in for another week";
  return [
    ...joined,
    { name: "sign-in", what, at: signedIn.expiresAt, lateMs: LATE_SIGN_IN_MS, hint, isFatal: false },
  ];
}

function lastOf(bundle: string): string {
  const parts = bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const ends = parts.map((part) => new X509Certificate(part).validToDate.getTime());
  return new Date(Math.max(0, ...ends)).toISOString();
}

export function isLate({ at, lateMs }: Expiry, now: number): boolean {
  return Date.parse(at) - now < lateMs;
}

export function checkExpiry(expiry: Expiry, now: number): Check {
  const { name, what, at, hint, isFatal } = expiry;
  const left = Date.parse(at) - now;
  if (left <= 0) {
    const sentence = `${what} expired ${formatDuration(-left)} ago`;
    return isFatal ? fail(name, sentence, hint) : warning(name, sentence, hint);
  }
  const sentence = `${what} is good for ${formatDuration(left)} more`;
  return isLate(expiry, now) ? warning(name, sentence, hint) : pass(name, sentence);
}

/** One line for many that are well, and one for each that is not. */
export function checkExpiries(expiries: readonly Expiry[], now: number): Check[] {
  const late = expiries.filter((expiry) => isLate(expiry, now));
  const well = expiries.filter((expiry) => !isLate(expiry, now));
  const [first, ...others] = well.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at));
  if (first === undefined || others.length < MOST_LINES)
    return expiries.map((each) => checkExpiry(each, now));
  const sentence = `${well.length} are good; the first to end, ${first.what}, in ${formatDuration(Date.parse(first.at) - now)}`;
  return [...late.map((each) => checkExpiry(each, now)), pass("certificates", sentence)];
}
const MOST_LINES = 8;
