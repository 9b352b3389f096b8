import { sql, type RawBuilder } from "kysely";

/** Why an administrator lets no new sessions on a server, as those who wait are told; null: nobody keeps them off. */
export function closedBecause(): RawBuilder<string | null> {
  return sql<string | null>`case
    when maintenance_until > clock_timestamp()
      then 'the server ' || servers.name || ' is in maintenance until '
        || to_char(maintenance_until at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC: ' || maintenance_message
    when drained_at is not null
      then 'the server ' || servers.name || ' is drained' || coalesce(': ' || drain_reason, '')
    end`;
}
