import type {
  BudgetAction,
  BudgetScope,
  ConnectionId,
  GpuUuid,
  ServerId,
  SessionId,
} from "@farpool/contract";
import type { ColumnType, Generated } from "kysely";
import type { Instant, InstantByDefault } from "./schema.ts";

/** One row. */
export interface BillingSettingsTable {
  only_row: Generated<boolean>;
  /** ISO 4217. */
  currency: string;
  time_zone: string;
}

/** One row: which names reports tell. */
export interface PrivacySettingsTable {
  only_row: Generated<boolean>;
  tells_programs: boolean;
  tells_accounts: boolean;
}

/** Never edited: the price that began last counts. */
export interface PricesTable {
  id: string;
  /** Null: of all models without a price of their own. */
  model: string | null;
  /** In 1/10,000 of the currency; null: none from here on. */
  per_hour: number | null;
  from_at: Instant;
  to_at: Instant | null;
  created_at: InstantByDefault;
}

export interface BudgetsTable {
  id: string;
  scope: BudgetScope;
  subject: string;
  amount: number;
  action: BudgetAction;
  created_at: InstantByDefault;
}

/** When the pool could not serve: a session, or any (null). */
export interface OutagesTable {
  id: Generated<number>;
  session_id: SessionId | null;
  from_at: Instant;
  to_at: Instant;
  reason: string;
}

interface CommonColumns {
  id: Generated<number>;
  kind: "usage" | "correction";
  session_id: SessionId;
  user_name: string;
  user_source: string;
  program: string | null;
  from_at: Instant;
  to_at: Instant;
  held_ms: number;
  charged_ms: number;
  busy_ms: number;
  cost: number;
  recorded_at: InstantByDefault;
}

/** Inserted, never changed: the database refuses it. What describes the session is as it was then. */
export interface UsageRecordsTable extends CommonColumns {
  session_name: string | null;
  ordinal: number;
  gpu_uuid: GpuUuid;
  model: string;
  server_id: ServerId;
  server_name: string;
  client: string;
  project: string | null;
  labels: ColumnType<Record<string, string>, string, string>;
  price_per_hour: number | null;
  currency: string;
  note: string | null;
}

/** What the processes of a session had of its records; their sums are the same. */
export interface UsageProcessRecordsTable extends CommonColumns {
  /** Null: no process was busy. */
  connection_id: ConnectionId | null;
  account: string;
}

export interface UsageSamplesTable {
  resolution_s: number;
  session_id: SessionId;
  connection_id: ConnectionId;
  /** When its time began. */
  at: Instant;
  busy_ms: number;
  memory_bytes: number;
}

export interface UsageTables {
  billing_settings: BillingSettingsTable;
  privacy_settings: PrivacySettingsTable;
  prices: PricesTable;
  budgets: BudgetsTable;
  outages: OutagesTable;
  usage_records: UsageRecordsTable;
  usage_process_records: UsageProcessRecordsTable;
  usage_samples: UsageSamplesTable;
}
