import { hostname, userInfo } from "node:os";
import { formatAddress } from "@farpool/client-api";
import {
  formatDuration,
  type AuthorityState,
  type Client,
  type PoolStatus,
  type Session,
} from "@farpool/contract";
import { print, printJson } from "../core/output.ts";
import { poolWay, withPool, type PoolWay } from "../core/pool-client.ts";
import { checkExpiry, isLate, ownExpiries, poolExpiries, type Expiry } from "../health/expiries.ts";
import { ownThumbprint } from "../health/own-client.ts";
import { describeRotation } from "../people/authority.ts";
import { orderLine, type GpuOrder } from "../service/gpu-order.ts";
import { serviceSummary } from "../service/status.ts";
import { sessionTable } from "./sessions.ts";

/** The pool is what was asked for: this machine's service adds no more than this. */
const SERVICE_PATIENCE_MS = 2_000;

/** The first thing to type: what there is, what is yours, and why what you wait for is not there yet. */
export async function status(isJson: boolean): Promise<number> {
  const account = userInfo().username;
  const asked = serviceSummary(SERVICE_PATIENCE_MS);
  const [pool, { sessions }, ends, rotation, clients, who] = await withPool((client) =>
    Promise.all([
      client.call("status", {}),
      client.call("listSessions", { query: { ended: 0 } }),
      poolExpiries(client),
      client.call("authorityState", {}).then((state) => state.rotation),
      // Who may not see the others sees the rest.
      client.call("listClients", {}).catch(() => ({ clients: [] })),
      client.call("whoAmI", { query: { account } }),
    ]),
  );
  const way = poolWay();
  const address = formatAddress(way.address);
  const thumbprint = ownThumbprint();
  const client = clients.clients.find((each) => each.thumbprint === thumbprint) ?? null;
  // A session is told by who it is for, and by the name with which a machine has joined.
  const host = way.membership?.membership.name ?? hostname();
  const user = who.signedIn ?? who.mapped ?? account;
  const mine = sessions.filter((session) => session.client.host === host && session.client.user === user);
  const expiries = [...ownExpiries(), ...ends];
  const { services, lines: serviceLines, programs } = await asked;
  if (isJson) {
    printJson({
      address,
      ...pool,
      client,
      list: sessions,
      mine: mine.map(({ id }) => id),
      expiries,
      rotation,
      services,
      programs,
    });
    return 0;
  }
  const own = { way, address, client, thumbprint, serviceLines, programs };
  print(page({ ...own, pool, sessions, mine, expiries, rotation }));
  return 0;
}

interface Facts {
  readonly way: PoolWay;
  readonly address: string;
  readonly pool: PoolStatus;
  readonly client: Client | null;
  readonly thumbprint: string | undefined;
  readonly sessions: readonly Session[];
  readonly mine: readonly Session[];
  readonly expiries: readonly Expiry[];
  readonly rotation: AuthorityState["rotation"];
  /** One for each client service that runs here. */
  readonly serviceLines: readonly string[];
  readonly programs: GpuOrder;
}

function page(facts: Facts): string {
  const { way, address, pool, client, thumbprint, sessions, mine, expiries, rotation } = facts;
  const { serviceLines, programs } = facts;
  const now = Date.now();
  const up = formatDuration(now - Date.parse(pool.startedAt));
  const others = sessions.filter((session) => !mine.includes(session));
  const lines = [
    `pool      ${address}, manager ${pool.version} (pid ${pool.pid}), up ${up}`,
    ...membershipLines(way),
    `servers   ${serversLine(pool)}`,
    `GPUs      ${pool.gpus.total}, ${pool.gpus.wholeFree} wholly free`,
    `sessions  ${pool.sessions.running} running, ${pool.sessions.queued} queued`,
    `you       ${clientLine(client, thumbprint)}`,
    ...serviceLines.map((line) => `service   ${line}`),
    `order     ${orderLine(programs)}`,
    `shell     programs started here use ${programs.sentence}`,
    ...expiryLines(expiries, now),
    ...(rotation === null ? [] : [`authority ${describeRotation(rotation, now)}`]),
  ];
  if (mine.length > 0) lines.push("", "of this machine", sessionTable(mine));
  for (const session of mine) lines.push(...waiting(session, now));
  if (others.length > 0) lines.push("", "of others", sessionTable(others));
  for (const session of others) lines.push(...waiting(session, now));
  if (sessions.length === 0 && pool.servers.online === 0)
    lines.push("", "no server is online: nothing can be granted now; 'farpool health' says more");
  return lines.join("\n");
}

function serversLine({ servers }: PoolStatus): string {
  const troubles = [
    ...(servers.silent > 0 ? [`${servers.silent} silent`] : []),
    ...(servers.lost > 0 ? [`${servers.lost} lost`] : []),
  ];
  const more = troubles.length === 0 ? "" : `, ${troubles.join(", ")} ('farpool health' says more)`;
  return `${servers.online} online${more}`;
}

function clientLine(client: Client | null, thumbprint: string | undefined): string {
  const who = `${userInfo().username}@${hostname()}`;
  if (thumbprint === undefined) return `${who}, unknown to the pool until the first 'farpool run'`;
  if (client === null) return `${who}, key ${thumbprint}`;
  if (client.revokedAt === null) return `${client.user}@${client.name}, key ${thumbprint}`;
  const why = client.revokedReason === null ? "" : `: ${client.revokedReason}`;
  return `${client.user}@${client.name}, REVOKED at ${client.revokedAt}${why}`;
}

function waiting({ id, queue, requestedAt }: Session, now: number): string[] {
  if (queue === null) return [];
  const since = formatDuration(Math.max(0, now - Date.parse(requestedAt)));
  return [`${id} has waited ${since}, position ${queue.position}; it waits for ${queue.waitsFor}`];
}

/** What is late, and else what ends first: the rest is in --json. */
function expiryLines(expiries: readonly Expiry[], now: number): string[] {
  const sorted = expiries.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at));
  const late = sorted.filter((expiry) => isLate(expiry, now));
  const [first] = sorted;
  if (first === undefined) return [];
  if (late.length === 0) {
    const others = expiries.length === 1 ? "" : `, the first of ${expiries.length} to end`;
    return [`expires   ${first.what}${others}, in ${formatDuration(Date.parse(first.at) - now)}`];
  }
  return late.map((expiry) => {
    const { message, hint } = checkExpiry(expiry, now);
    return `EXPIRES   ${message}${hint === undefined ? "" : `; ${hint}`}`;
  });
}

/** Until when this machine is part of the pool without doing anything. */
function membershipLines({ membership }: PoolWay): string[] {
  if (membership === undefined) return [];
  const { name, role, expiresAt, renewAt } = membership.membership;
  return [
    `machine   ${name}, a ${role}; its certificate is good until ${expiresAt}, renewed from ${renewAt} on`,
  ];
}
