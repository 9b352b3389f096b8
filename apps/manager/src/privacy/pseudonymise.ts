import { randomBytes } from "node:crypto";
import { FarpoolError, type Pseudonymised } from "@farpool/contract";
import { sql, type RawBuilder } from "kysely";
import { inPlacement, type Database, type Tx } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";
import { recordAudit } from "../identity/audit.ts";
import { findSubject, isSubject, namedIn, tellsOf, wordPattern, type DataSubject } from "./person.ts";

/**
 * Takes a person's name and account from all that the pool has of her; sums, times, GPUs and costs stay as they are, under a
 * name that nothing leads back from. It is no way to hide what goes on: she must have no living session.
 */
export function pseudonymise(db: Database, named: string, by: Principal): Promise<Pseudonymised> {
  return inPlacement(db, async (tx) => {
    const subject = await findSubject(tx, named);
    await requireNothingLiving(tx, subject);
    await requireNotOneself(subject, by);
    const pseudonym = `person-${randomBytes(5).toString("hex")}`;
    const changed: Record<string, number> = {};
    for (const [what, statement] of statementsFor(subject, pseudonym)) {
      const { numAffectedRows = 0n } = await statement.execute(tx);
      changed[what] = (changed[what] ?? 0) + Number(numAffectedRows);
    }
    await recordAudit(tx, {
      kind: "user-changed",
      reason: `${by.description} pseudonymised a person, who is ${pseudonym} from now on`,
      peer: by.peer,
    });
    return {
      pseudonym,
      changed: Object.entries(changed).flatMap(([what, count]) => (count === 0 ? [] : [{ what, count }])),
    };
  });
}

async function requireNothingLiving(tx: Tx, { name }: DataSubject): Promise<void> {
  const living = await tx
    .selectFrom("sessions")
    .select("id")
    .where(isSubject(name))
    .where((eb) => eb.or([eb("state", "<>", "ended"), eb("usage_open", "=", true)]))
    .where((eb) => eb.or([eb("state", "<>", "ended"), eb("granted_at", "is not", null)]))
    .execute();
  if (living.length === 0) return;
  throw new FarpoolError(
    "FARPOOL_CONFLICT",
    `${name} has session(s) that go on, or whose usage is not all recorded yet: ${living.map(({ id }) => id).join(", ")}`,
    {
      hint: "'farpool sessions end' ends them; their usage is recorded within seconds of their servers' word",
    },
  );
}

async function requireNotOneself({ user }: DataSubject, by: Principal): Promise<void> {
  if (user === undefined || by.user?.id !== user.id) return;
  throw new FarpoolError(
    "FARPOOL_CONFLICT",
    `you are ${user.name} yourself: you would be signed out for good`,
    {
      hint: "another administrator can do it, or whoever may open the manager's socket",
    },
  );
}

type Statement = readonly [what: string, statement: RawBuilder<unknown>];

/** In this order: what finds her sessions by her name comes before the name goes. */
function statementsFor(subject: DataSubject, pseudonym: string): readonly Statement[] {
  const { name, places, user } = subject;
  const hers = sql`(select id from sessions where ${isSubject(name)})`;
  const accounts = [...new Set(places.map((place) => place.slice(0, place.lastIndexOf("@"))))];
  const words = [...new Set([...places, name, ...accounts])];
  /** The text with her name, her accounts and where they are replaced, as words of their own. */
  const without = (column: string): RawBuilder<unknown> =>
    words.reduce<RawBuilder<unknown>>(
      (text, word) => sql`regexp_replace(${text}, ${wordPattern(word)}, ${`\\1${pseudonym}`}, 'gi')`,
      sql.ref(column),
    );
  /** A path or name of a program that has her name in it, in a home folder, say. */
  const program = sql`case when program ilike any(${words.map(containing)}::text[]) then null else program end`;
  return [
    ["audit lines", sql`update audit set reason = ${without("reason")} where ${tellsOf(subject)}`],
    [
      "events of sessions",
      sql`update session_events set reason = ${without("reason")}
           where session_id in ${hers} or ${namedIn("reason", subject)}`,
    ],
    // What an administrator does to others is told with her name.
    [
      "ends of sessions",
      sql`update sessions set end_message = ${without("end_message")}
           where end_message is not null and (${isSubject(name)} or ${namedIn("end_message", subject)})`,
    ],
    ...["clients", "machines"].map((table): Statement => [
      "revocations",
      sql`update ${sql.table(table)} set revoked_reason = ${without("revoked_reason")}
           where ${namedIn("revoked_reason", subject)}`,
    ]),
    ["notices of sessions", sql`delete from session_notices where session_id in ${hers}`],
    ["processes", sql`update processes set program = ${program} where session_id in ${hers}`],
    ["", sql`select set_config('farpool.pseudonymising', 'on', true)`],
    [
      "usage records",
      sql`update usage_records set user_name = ${pseudonym}, session_name = null, labels = '{}', program = ${program}
           where user_name = ${name} or session_id in ${hers}`,
    ],
    [
      "usage records of processes",
      sql`update usage_process_records set user_name = ${pseudonym}, account = ${pseudonym}, program = ${program}
           where user_name = ${name} or session_id in ${hers}`,
    ],
    ["", sql`select set_config('farpool.pseudonymising', 'off', true)`],
    ["fair share", sql`update fair_share set share_key = ${pseudonym} where share_key = ${name}`],
    ["budgets", sql`delete from budgets where scope = 'user' and subject = ${name}`],
    ["policies", sql`delete from policies where scope_kind = 'user' and scope_name = ${name}`],
    ["groups", sql`delete from user_group_members where user_name = ${name}`],
    [
      "clients",
      sql`update clients set account = ${pseudonym} where account || '@' || name = any(${[...places, name]}::text[])`,
    ],
    [
      "sessions",
      sql`update sessions set policy_user = ${pseudonym}, client_user = ${pseudonym}, reported_account = ${pseudonym},
            share_key = ${pseudonym}, name = null, labels = '{}', budget_notice = null,
            client_program = case when client_program ilike any(${words.map(containing)}::text[]) then null
                                  else client_program end
           where ${isSubject(name)}`,
    ],
    ["join tokens", sql`update join_tokens set created_by = ${without("created_by")}`],
    ...(user === undefined ? [] : accountStatements(user.id, pseudonym)),
  ];
}

/** Her account of the pool: nobody signs in with it again. */
function accountStatements(userId: string, pseudonym: string): readonly Statement[] {
  return [
    ["mappings of accounts", sql`delete from account_mappings where user_id = ${userId}`],
    ["sign-in links", sql`delete from sign_in_codes where user_id = ${userId}`],
    [
      "sign-ins and tokens",
      sql`update api_tokens set name = '', revoked_at = coalesce(revoked_at, clock_timestamp())
           where user_id = ${userId}`,
    ],
    [
      "account",
      sql`update users set name = ${pseudonym}, password_hash = null,
            disabled_at = coalesce(disabled_at, clock_timestamp()) where id = ${userId}`,
    ],
  ];
}

const containing = (word: string): string => `%${word.replaceAll(/[\\%_]/g, String.raw`\$&`)}%`;
