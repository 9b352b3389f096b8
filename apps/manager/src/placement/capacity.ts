import { TIMES, type Endpoint, type GpuUuid, type ServerId } from "@farpool/contract";
import type { GpuCapacity, ServerCapacity } from "@farpool/domain";
import { sql, type RawBuilder } from "kysely";
import type { Database } from "../database/connect.ts";
import { closedBecause } from "../servers/closed.ts";

interface Row {
  readonly id: ServerId;
  readonly name: string;
  readonly accepts: boolean;
  readonly endpoints: readonly Endpoint[];
  readonly driver_version: string;
  readonly simulated: boolean;
  readonly gpus: ReadonlyArray<
    readonly [GpuUuid, string, number, number, string, number, ReadonlyArray<number | null> | null]
  >;
  readonly labels: Readonly<Record<string, string>>;
  readonly driver_release: string | null;
  readonly closed_because: string | null;
}

/** Every server with its GPUs and what is taken of them, as placement wants to see it: one statement. */
export async function readCapacity(db: Database): Promise<readonly ServerCapacity[]> {
  return (await readCapacityAnd(db, sql<null>`null`)).servers;
}

/** The same, and whatever else is to be as it is at that moment: a column that answers JSON. */
export async function readCapacityAnd<T>(
  db: Database,
  column: RawBuilder<T>,
): Promise<{ readonly servers: readonly ServerCapacity[]; readonly also: T }> {
  const { rows } = await sql<{ servers: readonly Row[]; also: T }>`
    select ${column} as also, (select coalesce(json_agg(server order by server.name), '[]') from (
      select servers.id, servers.name, endpoints, driver_version, simulated, labels, driver_release,
        acceptor_ready and last_seen_at > clock_timestamp() - ${TIMES.serverSilentMs} * interval '1 millisecond'
          as accepts,
        ${closedBecause()} as closed_because,
        coalesce(json_agg(json_build_array(
          gpus.uuid, gpus.name, gpus.index, gpus.memory_total_bytes, compute_capability, multiprocessors, limits
        ) order by gpus.index) filter (where gpus.uuid is not null), '[]') as gpus
      from servers
      left join gpus on gpus.server_id = servers.id and gpus.present
      left join (
        select gpu_uuid, json_agg(memory_limit_bytes) as limits
        from session_gpus where released_at is null group by gpu_uuid
      ) taken on taken.gpu_uuid = gpus.uuid
      group by servers.id
    ) server) as servers`.execute(db);
  const [row] = rows;
  if (row === undefined) throw new Error("a statement without a table answered no row");
  return { servers: row.servers.map(toCapacity), also: row.also };
}

function toCapacity(row: Row): ServerCapacity {
  return {
    id: row.id,
    name: row.name,
    accepts: row.accepts && row.closed_because === null,
    closedBecause: row.closed_because,
    facts: {
      addresses: row.endpoints.flatMap((endpoint) => (endpoint.kind === "unix" ? [] : [endpoint.host])),
      cudaVersion: row.driver_version,
      driverVersion: row.driver_release,
      isSimulated: row.simulated,
      labels: row.labels,
    },
    gpus: row.gpus.map(
      ([uuid, name, index, totalBytes, computeCapability, multiprocessors, slices]): GpuCapacity => ({
        ...{ uuid, name, index, totalBytes, computeCapability, multiprocessors },
        slices: slices ?? [],
      }),
    ),
  };
}
