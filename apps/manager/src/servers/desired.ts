import {
  FarpoolError,
  publicKeySchema,
  type DesiredState,
  type GpuUuid,
  type ServerId,
  type SessionId,
  type Thumbprint,
} from "@farpool/contract";
import { sql } from "kysely";
import type { Database } from "../database/connect.ts";
import { revokedClients } from "../identity/clients.ts";
import { placeOf } from "../sessions/places.ts";

interface Row {
  readonly revision: number;
  readonly sessions: ReadonlyArray<{
    readonly id: SessionId;
    readonly secret: string;
    readonly gpus: ReadonlyArray<readonly [GpuUuid, number | null]>;
    readonly endsInMs: number | null;
  }> | null;
  readonly keys: ReadonlyArray<{ readonly kid: Thumbprint; readonly x: string }> | null;
  readonly revoked: readonly Thumbprint[] | null;
}

/** The sessions a server has to hold, each with its GPUs there, and whom to trust. One statement, so revision and set belong together. */
export async function readDesired(db: Database, serverId: ServerId, graceMs: number): Promise<DesiredState> {
  const { rows } = await sql<Row>`
    select desired_revision as revision,
      (select json_agg(json_build_object('id', id, 'secret', secret, 'gpus', gpus, 'endsInMs', ends_in_ms)
          order by queue_number) from (
        select sessions.id, secret, queue_number,
          -- 'greatest' passes over null, which is a session without an end.
          case when max_duration_ms is not null then greatest(0,
            ceil(max_duration_ms - extract(epoch from clock_timestamp() - granted_at) * 1000)) end as ends_in_ms,
          json_agg(json_build_array(gpu_uuid, memory_limit_bytes) order by ordinal) as gpus
          from sessions
          left join session_servers on session_servers.session_id = sessions.id and session_servers.released_at is null
          join session_gpus on session_gpus.session_id = sessions.id
          join gpus on gpus.uuid = gpu_uuid
         where ${placeOf} = servers.id and state in ('granted', 'active')
           -- Of a session on several servers, the GPUs of this one.
           and (session_servers.server_id is null or gpus.server_id = servers.id)
         group by sessions.id) held) as sessions,
      (select json_agg(json_build_object('kid', thumbprint, 'x', public_x) order by created_at desc)
         from grant_keys) as keys,
      (select json_agg(thumbprint order by revoked_at desc) from (${revokedClients()}) revoked) as revoked
    from servers where servers.id = ${serverId}`.execute(db);
  const [row] = rows;
  if (row === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no server ${serverId}`);
  return {
    revision: row.revision,
    sessions: (row.sessions ?? []).map(({ id, secret, gpus, endsInMs }) => ({
      ...{ id, secret, endsInMs, graceSeconds: graceMs / 1_000 },
      gpus: gpus.map(([uuid, memoryLimitBytes]) => ({ uuid, memoryLimitBytes })),
    })),
    trust: {
      managerKeys: (row.keys ?? []).map(({ kid, x }) => ({ kid, x: publicKeySchema.shape.x.parse(x) })),
      revoked: [...(row.revoked ?? [])],
    },
  };
}
