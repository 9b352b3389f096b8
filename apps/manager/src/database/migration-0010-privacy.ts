import { sql, type Kysely } from "kysely";

const NAMES = ["user_name", "account", "program", "session_name", "labels"];

const STATEMENTS = [
  `create table privacy_settings (
     only_row boolean primary key default true check (only_row),
     tells_programs boolean not null default true,
     tells_accounts boolean not null default true
   )`,
  `insert into privacy_settings default values`,
  // Whoever asks to be forgotten is; what was held, and what it cost, stays as it was told.
  `create or replace function farpool_refuse_edit() returns trigger language plpgsql as $$
   begin
     if tg_op = 'UPDATE' and current_setting('farpool.pseudonymising', true) = 'on' then
       return null;
     end if;
     raise exception 'usage records are never edited: a correction is a record of its own';
   end $$`,
  `create function farpool_refuse_sums() returns trigger language plpgsql as $$
   begin
     if to_jsonb(old) - array[${NAMES.map((name) => `'${name}'`).join(", ")}]
        is distinct from to_jsonb(new) - array[${NAMES.map((name) => `'${name}'`).join(", ")}] then
       raise exception 'of usage records only names may be taken away';
     end if;
     return new;
   end $$`,
  `create trigger only_names before update on usage_records
     for each row execute function farpool_refuse_sums()`,
  `create trigger only_names before update on usage_process_records
     for each row execute function farpool_refuse_sums()`,
];

/** Names that reports do not tell, and persons whose names are taken away. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}
