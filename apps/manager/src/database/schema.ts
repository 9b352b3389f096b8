import type {
  DeviceAttributes,
  AuditEntry,
  ClientSpecification,
  ConnectionId,
  Endpoint,
  EndReason,
  GpuHealth,
  GpuUuid,
  LabelRequirement,
  Labels,
  PolicyFields,
  PolicyScopeKind,
  PolicyUserSource,
  KnownHostFacts,
  ServerId,
  SessionId,
  SessionNotice,
  SessionPurpose,
  SessionState,
  Size,
  Thumbprint,
  WorkerReport,
} from "@farpool/contract";
import type { ColumnType, Generated, JSONColumnType, RawBuilder } from "kysely";
import type { IdentityTables } from "./schema-identity.ts";
import type { UsageTables } from "./schema-usage.ts";

/** The tables as `migrations/` makes them. Times are the database's, so several managers agree on them. */
export type Instant = ColumnType<Date, Date | string, Date | string>;
export type InstantByDefault = ColumnType<Date, Date | string | undefined, Date | string>;

export interface ServersTable {
  id: ServerId;
  name: string;
  version: string;
  driver_version: string;
  simulated: boolean;
  endpoints: JSONColumnType<Endpoint[]>;
  acceptor_ready: boolean;
  worker_sandbox: ColumnType<string[] | null, string | null, string | null>;
  host: ColumnType<KnownHostFacts | null, string | null | undefined, string | null>;
  /** Counts changes of the set of sessions this server has to hold. */
  desired_revision: Generated<number>;
  registered_at: InstantByDefault;
  last_seen_at: Instant;
  /** When its agent last said what its workers do. */
  reported_at: Instant | null;
  /** When its agent last spoke: never moved by anybody else. */
  heard_at: Instant | null;
  own_labels: ColumnType<Record<string, string>, string | undefined, string>;
  given_labels: ColumnType<Record<string, string | null>, string | undefined, string>;
  /** Both, made by the database. */
  labels: ColumnType<Record<string, string>, never, never>;
  drained_at: Instant | null;
  drain_reason: string | null;
  maintenance_until: Instant | null;
  maintenance_message: string | null;
  driver_release: string | null;
}

export interface GpusTable {
  uuid: GpuUuid;
  server_id: ServerId;
  index: number;
  name: string;
  memory_total_bytes: number;
  memory_used_bytes: number | null;
  compute_capability: string;
  pci_bus_id: string;
  multiprocessors: number;
  present: boolean;
  health: ColumnType<GpuHealth | null, string | null, string | null>;
  attributes: ColumnType<DeviceAttributes | null, string | null | undefined, string | null>;
}

export interface SessionsTable {
  id: SessionId;
  queue_number: Generated<number>;
  state: SessionState;
  name: string | null;
  requested_count: number;
  size: JSONColumnType<Size>;
  client_host: string;
  client_user: string;
  client_pid: number;
  client_program: string | null;
  purpose: Generated<SessionPurpose>;
  project: string | null;
  labels: ColumnType<Labels, string | undefined, string>;
  /** Whose limits it counts against, and how the pool knows. Null: from before policies. */
  policy_user: string | null;
  policy_user_source: PolicyUserSource | null;
  /** Null: without. */
  max_duration_ms: number | null;
  idle_timeout_ms: number | null;
  auto_release_ms: number | null;
  /** What policies leave of the pool for it; null is all. */
  servers_allowed: ColumnType<LabelRequirement[] | null, string | null, string | null>;
  memory_allowed_bytes: number | null;
  /** When somebody last held it. */
  attached_at: Instant | null;
  /** When a use of its GPUs was last reported; null before the first. */
  last_busy_at: Instant | null;
  idle_warned_at: Instant | null;
  duration_warned_at: Instant | null;
  /** Null: from before clients had keys. */
  client_key: Thumbprint | null;
  secret: string;
  /** Of a session on several servers the first; `session_servers` has them all. */
  server_id: ServerId | null;
  queue_position: number | null;
  waits_for: string | null;
  wait_until: Instant | null;
  lease_expires_at: Instant;
  requested_at: Instant;
  granted_at: Instant | null;
  active_at: Instant | null;
  ended_at: Instant | null;
  released_at: Instant | null;
  end_reason: EndReason | null;
  end_message: string | null;
  /** The server's desired_revision from which on the session is no longer wanted there. */
  ended_at_revision: number | null;
  revision: Generated<number>;
  usage_settled_until: Instant | null;
  /** There will be more usage records of it. */
  usage_open: Generated<boolean>;
  over_budget: Generated<boolean>;
  budget_notice: string | null;
  priority: Generated<number>;
  filters: JSONColumnType<string[], string | undefined, string>;
  /** Whose fair share it counts against. */
  share_key: Generated<string>;
  /** Slices as what they are of a GPU; null before the grant. */
  granted_gpus: number | null;
  /** The GPUs that the same one had lately, to be had again. */
  preferred_gpus: ColumnType<GpuUuid[] | null, string | RawBuilder<string> | null, string | null>;
  estimated_at: Instant | null;
  /** Where GPUs are kept for it while it waits, of several servers one. */
  reserved_server_id: ServerId | null;
  /** Null: nobody whom the pool knows; `client_user` is then what the client reports. */
  user_id: string | null;
  /** What the client said, whoever it is for. Null: from before people could sign in. */
  reported_account: string | null;
  /** GPUs on several servers will do. */
  spread_servers: Generated<boolean>;
}

/** Decayed GPU-seconds of sessions that are over; those of the others are added when somebody looks. */
export interface FairShareTable {
  share_key: string;
  gpu_seconds: number;
  as_of: Instant;
}

/** One row: how all managers of this pool schedule. */
export interface SchedulingTable {
  only_row: Generated<boolean>;
  half_life_ms: number;
  reserve_after_ms: number;
  aging_ms: number;
  kept_share: number;
}

export interface SessionGpusTable {
  session_id: SessionId;
  ordinal: number;
  gpu_uuid: GpuUuid;
  memory_limit_bytes: number | null;
  /** Until then its memory is taken: workers of an ended session may still hold it. */
  released_at: Instant | null;
}

/** The servers of a session that is on several, each with its part of the GPUs; others have no rows. */
export interface SessionServersTable {
  session_id: SessionId;
  server_id: ServerId;
  /** From 0, in the order in which programs count their GPUs. */
  position: number;
  /** When the server took connections. */
  opened_at: Instant | null;
  /** This server's desired_revision from which on the session is no longer wanted there. */
  ended_at_revision: number | null;
  /** When this server had let go of its part. */
  released_at: Instant | null;
}

export interface SessionEventsTable {
  id: Generated<number>;
  session_id: SessionId;
  at: InstantByDefault;
  state: SessionState;
  reason: string;
}

export interface ProcessesTable {
  session_id: SessionId;
  connection_id: ConnectionId;
  server_id: ServerId;
  worker_pid: number;
  client_pid: number | null;
  program: string | null;
  sandbox: ColumnType<string[] | null, string | null, string | null>;
  started_at: Instant;
  ended_at: Instant | null;
  exit: string | null;
  report: ColumnType<WorkerReport | null, string | null, string | null>;
  reported_at: Instant;
}

/** What has no other table. Starts and ends of sessions are `session_events`. */
export interface AuditTable {
  id: string;
  at: InstantByDefault;
  kind: AuditEntry["kind"];
  /** As it was named: there may be no such session. */
  session_id: string | null;
  connection_id: string | null;
  client_key: Thumbprint | null;
  server_id: ServerId | null;
  peer: string | null;
  reason: string;
}

export interface PoliciesTable {
  scope_kind: PolicyScopeKind;
  scope_name: string;
  fields: JSONColumnType<PolicyFields>;
  updated_at: InstantByDefault;
}

export interface UserGroupsTable {
  name: string;
  created_at: InstantByDefault;
}

export interface UserGroupMembersTable {
  group_name: string;
  user_name: string;
}

export interface ClientSpecificationsTable {
  client_key: Thumbprint;
  specification: JSONColumnType<ClientSpecification>;
  updated_at: InstantByDefault;
}

/** What is shown to those who hold a session. */
export interface SessionNoticesTable {
  number: Generated<number>;
  session_id: SessionId;
  at: InstantByDefault;
  kind: SessionNotice["kind"];
  text: string;
}

export interface Schema extends UsageTables, IdentityTables {
  policies: PoliciesTable;
  user_groups: UserGroupsTable;
  user_group_members: UserGroupMembersTable;
  client_specifications: ClientSpecificationsTable;
  session_notices: SessionNoticesTable;
  servers: ServersTable;
  gpus: GpusTable;
  sessions: SessionsTable;
  session_gpus: SessionGpusTable;
  session_servers: SessionServersTable;
  session_events: SessionEventsTable;
  processes: ProcessesTable;
  audit: AuditTable;
  fair_share: FairShareTable;
  scheduling: SchedulingTable;
}
