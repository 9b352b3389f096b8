import {
  FarpoolError,
  type PrivacySettings,
  type SessionId,
  type UsageKey,
  type UsageReport,
  type UsageSums,
} from "@farpool/contract";
import { dayOf, monthOf, nextDay, nextMonth, startOfDay } from "@farpool/usage";
import { sql, type RawBuilder } from "kysely";
import type { Database, Tx } from "../database/connect.ts";
import { readPrivacy, someoneAt } from "../privacy/settings.ts";
import { readHeldSessions, type HeldSession } from "./holdings.ts";
import { readTariff, type PoolTariff } from "./tariff.ts";
import { readUntold, tell, type ToldGpu, type ToldProcess } from "./telling.ts";

export interface Range {
  readonly fromMs: number | null;
  readonly toMs: number;
  /** Only what is this user's; null: everybody's. */
  readonly user: string | null;
}

/** What is asked for, and what of it the asker may see. */
export interface RangeQuery {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly user: string | null;
}

/** Days and months of the pool's time zone as moments; the last day belongs to the range. */
export function rangeOf({ from, to, user }: RangeQuery, { timeZone, nowMs }: PoolTariff): Range {
  const start = (day: string): number => {
    const full = day.length === 7 ? `${day}-01` : day;
    if (new Date(`${full}T00:00:00Z`).toISOString().slice(0, 10) !== full)
      throw new FarpoolError("FARPOOL_BAD_REQUEST", `there is no day ${day}`);
    return startOfDay(full, timeZone);
  };
  const fromMs = from === undefined ? null : start(from);
  // What goes on is told up to now, and nothing begins later.
  const endOf = to === undefined ? nowMs + 1 : (to.length === 7 ? nextMonth : nextDay)(start(to), timeZone);
  if (fromMs !== null && fromMs >= endOf)
    throw new FarpoolError("FARPOOL_BAD_REQUEST", `the range from ${from} to ${to ?? "now"} is empty`, {
      hint: "--from is its first day, --to its last",
    });
  return { fromMs, toMs: endOf, user };
}

/** A session that is not all told yet, with what is to be told of it by now. */
export interface OpenUsage {
  readonly session: HeldSession;
  readonly gpus: readonly ToldGpu[];
  readonly processes: readonly ToldProcess[];
}

/** What goes on, or has no records yet, so far: as it would be settled now. */
export async function readOpenUsage(db: Database, tariff: PoolTariff, range: Range): Promise<OpenUsage[]> {
  const sessions = await readHeldSessions(db, {
    ...{ after: null, limit: 1_000_000 },
    ...(range.user !== null && { of: { users: [range.user], projects: [] } }),
  });
  const untold = await readUntold(
    db,
    sessions.map(({ id }) => id),
  );
  const isWithin = ({ fromMs }: { readonly fromMs: number }): boolean =>
    (range.fromMs === null || fromMs >= range.fromMs) && fromMs < range.toMs;
  return sessions.map((session) => {
    const processes = untold.get(session.id) ?? [];
    const told = tell(session, processes, { tariff, untilMs: tariff.nowMs, isOver: true });
    return { session, gpus: told.gpus.filter(isWithin), processes: told.processes.filter(isWithin) };
  });
}

interface Line {
  readonly key: string | null;
  readonly about: string | null;
  readonly sessionId: SessionId;
  readonly heldMs: number;
  readonly chargedMs: number;
  readonly busyMs: number;
  readonly cost: number;
}

interface GroupRow extends Omit<UsageSums, "sessions"> {
  key: string | null;
  about: string | null;
  /** Of sessions that will have no more records. */
  closed: number;
  open: SessionId[] | null;
}

/** Records of the range, summed by the database, and what goes on so far. */
export async function reportUsage(
  db: Database,
  query: RangeQuery & { readonly by: UsageKey },
): Promise<UsageReport> {
  return inSnapshot(db, query, async (tx, { tariff, range, privacy }) => {
    const open = (await readOpenUsage(tx, tariff, range)).map((each) => withoutNames(each, privacy));
    const groups = await readGroups(tx, { by: query.by, range, tariff, privacy, open });
    for (const line of open.flatMap((each) => linesOf(each, query.by, tariff.timeZone))) add(groups, line);
    const rows = [...groups.values()].map(({ sessions, closed, ...row }) => ({
      ...row,
      sessions: closed + sessions.size,
    }));
    const all = new Set([...groups.values()].flatMap(({ sessions }) => [...sessions]));
    const closed = await countClosed(tx, { range, open });
    const sum = (field: "heldMs" | "chargedMs" | "busyMs" | "cost"): number =>
      rows.reduce((total, row) => total + row[field], 0);
    return {
      by: query.by,
      currency: tariff.currency,
      timeZone: tariff.timeZone,
      fromAt: range.fromMs === null ? null : new Date(range.fromMs).toISOString(),
      toAt: new Date(Math.min(range.toMs, tariff.nowMs)).toISOString(),
      rows: sorted(rows, query.by),
      total: {
        sessions: closed + all.size,
        heldMs: sum("heldMs"),
        chargedMs: sum("chargedMs"),
        busyMs: sum("busyMs"),
        cost: sum("cost"),
      },
    };
  });
}

/** What is read of a range at one moment: a session that is settled meanwhile must not be told twice, or not at all. */
export function inSnapshot<T>(
  db: Database,
  query: RangeQuery,
  read: (
    tx: Tx,
    of: { readonly tariff: PoolTariff; readonly range: Range; readonly privacy: PrivacySettings },
  ) => Promise<T>,
): Promise<T> {
  return db
    .transaction()
    .setIsolationLevel("repeatable read")
    .execute(async (tx) => {
      const tariff = await readTariff(tx);
      return read(tx, { tariff, range: rangeOf(query, tariff), privacy: await readPrivacy(tx) });
    });
}

/** What goes on, with the names that the pool tells. */
export function withoutNames(
  { session, gpus, processes }: OpenUsage,
  { tellsPrograms, tellsAccounts }: PrivacySettings,
): OpenUsage {
  const isHidden = !tellsAccounts && session.user_source === "reported";
  const names = {
    ...(isHidden && { user_name: someoneAt(session.client) }),
    ...(!tellsAccounts && { account: "-" }),
    ...(!tellsPrograms && { program: null }),
  };
  return {
    session: { ...session, ...names },
    gpus,
    processes: tellsPrograms ? processes : processes.map((each) => ({ ...each, program: null })),
  };
}

type Group = Omit<GroupRow, "open"> & { sessions: Set<SessionId> };

function add(groups: Map<string | null, Group>, { key, about, sessionId, ...sums }: Line): void {
  const group = groups.get(key) ?? {
    key,
    about,
    closed: 0,
    sessions: new Set<SessionId>(),
    heldMs: 0,
    chargedMs: 0,
    busyMs: 0,
    cost: 0,
  };
  groups.set(key, group);
  group.sessions.add(sessionId);
  group.heldMs += sums.heldMs;
  group.chargedMs += sums.chargedMs;
  group.busyMs += sums.busyMs;
  group.cost += sums.cost;
}

function sorted<T extends { key: string | null; cost: number; heldMs: number }>(
  rows: T[],
  by: UsageKey,
): T[] {
  const isTime = by === "day" || by === "month";
  return rows.toSorted((a, b) => {
    const text = (a.key ?? "").localeCompare(b.key ?? "", "en");
    return isTime ? text : b.cost - a.cost || b.heldMs - a.heldMs || text;
  });
}

const ofProcesses = (by: UsageKey): boolean => by === "program" || by === "process";

function linesOf({ session, gpus, processes }: OpenUsage, by: UsageKey, zone: string): Line[] {
  const sessionId = session.id;
  if (by === "program" || by === "process") {
    return processes.map((each) => ({
      ...each,
      sessionId,
      key: by === "program" ? each.program : `${sessionId}/${each.connectionId ?? "-"}`,
      about: by === "program" ? null : aboutProcess(each.program, session),
    }));
  }
  return gpus.map((gpu) => ({ ...gpu, sessionId, ...keyOf(by, session, { gpu, zone }) }));
}

function aboutProcess(program: string | null, session: HeldSession): string {
  return `${program ?? "-"}, ${session.account} (${session.user_name}, ${session.user_source})`;
}

type GpuKey = Exclude<UsageKey, "program" | "process">;

function keyOf(
  by: GpuKey,
  session: HeldSession,
  { gpu, zone }: { readonly gpu: ToldGpu; readonly zone: string },
): Pick<Line, "key" | "about"> {
  switch (by) {
    case "user":
      return { key: session.user_name, about: null };
    case "client":
      return { key: session.client, about: null };
    case "project":
      return { key: session.project, about: null };
    case "server":
      return { key: gpu.serverName, about: null };
    case "gpu":
      return { key: gpu.gpuUuid, about: `${gpu.model} on ${gpu.serverName}` };
    case "model":
      return { key: gpu.model, about: null };
    case "session":
      return { key: session.id, about: session.user_name };
    case "day":
      return { key: dayOf(gpu.fromMs, zone), about: null };
    case "month":
      return { key: monthOf(gpu.fromMs, zone), about: null };
  }
}

/** The same keys in SQL. */
function keyColumns(
  by: UsageKey,
  zone: string,
  { tellsPrograms, tellsAccounts }: PrivacySettings,
): { key: RawBuilder<string | null>; about: RawBuilder<string | null> } {
  const none = sql<null>`null::text`;
  const column = (name: string) => sql<string | null>`${sql.ref(name)}`;
  const local = (pattern: string) => sql<string>`to_char(from_at at time zone ${zone}, ${pattern})`;
  const program = tellsPrograms ? sql`program` : sql`null::text`;
  const account = tellsAccounts ? sql`account` : sql`'-'::text`;
  const user = tellsAccounts
    ? sql<string | null>`user_name`
    : sql<
        string | null
      >`case when user_source = 'reported' then ${userWithoutAccount(by)} else user_name end`;
  switch (by) {
    case "user":
      return { key: user, about: none };
    case "program":
      return { key: sql<string | null>`${program}`, about: none };
    case "client":
    case "project":
    case "model":
      return { key: column(by), about: none };
    case "server":
      return { key: column("server_name"), about: none };
    case "gpu":
      return { key: column("gpu_uuid"), about: sql`max(model || ' on ' || server_name)` };
    case "session":
      return { key: column("session_id"), about: sql`max(${user})` };
    case "process":
      return {
        key: sql`session_id || '/' || coalesce(connection_id, '-')`,
        about: sql`max(coalesce(${program}, '-') || ', ' || ${account} || ' (' || ${user} || ', ' || user_source || ')')`,
      };
    case "day":
      return { key: local("YYYY-MM-DD"), about: none };
    case "month":
      return { key: local("YYYY-MM"), about: none };
  }
}

/** As `someoneAt`. Records of processes do not name the client: it is behind the last @ of who was reported. */
function userWithoutAccount(by: UsageKey): RawBuilder<string> {
  return ofProcesses(by)
    ? sql<string>`'*@' || regexp_replace(user_name, '^.*@', '')`
    : sql<string>`'*@' || client`;
}

interface Grouping {
  readonly by: UsageKey;
  readonly range: Range;
  readonly tariff: PoolTariff;
  readonly privacy: PrivacySettings;
  readonly open: readonly OpenUsage[];
}

const within = ({ fromMs, toMs, user }: Range): RawBuilder<boolean> => {
  const from = fromMs === null ? null : new Date(fromMs);
  return sql<boolean>`(${from}::timestamptz is null or from_at >= ${from}) and from_at < ${new Date(toMs)}
    and (${user}::text is null or user_name = ${user})`;
};

async function readGroups(
  db: Database,
  { by, range, tariff, privacy, open }: Grouping,
): Promise<Map<string | null, Group>> {
  const { key, about } = keyColumns(by, tariff.timeZone, privacy);
  const ids = open.map(({ session }) => session.id);
  const { rows } = await sql<GroupRow>`
    select ${key} as key, ${about} as about,
           sum(held_ms)::bigint as "heldMs", sum(charged_ms)::bigint as "chargedMs", sum(busy_ms)::bigint as "busyMs",
           sum(cost)::bigint as cost,
           count(distinct session_id) filter (where session_id <> all(${ids}::text[])) as closed,
           array_agg(distinct session_id) filter (where session_id = any(${ids}::text[])) as open
      from ${sql.table(ofProcesses(by) ? "usage_process_records" : "usage_records")}
     where ${within(range)}
     group by 1`.execute(db);
  return new Map(rows.map(({ open: ongoing, ...row }) => [row.key, { ...row, sessions: new Set(ongoing) }]));
}

async function countClosed(db: Database, { range, open }: Pick<Grouping, "range" | "open">): Promise<number> {
  const ids = open.map(({ session }) => session.id);
  const { rows } = await sql<{ count: number }>`
    select count(distinct session_id) as count from usage_records
     where ${within(range)} and session_id <> all(${ids}::text[])`.execute(db);
  return rows[0]?.count ?? 0;
}
