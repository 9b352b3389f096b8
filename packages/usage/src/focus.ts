import { formatAmount, HOUR_MS } from "./amounts.ts";
import type { CsvCell } from "./csv.ts";
import { nextMonth, startOfMonth } from "./zones.ts";

/** One usage record with what FOCUS wants to know about it. */
export interface FocusRecord {
  readonly kind: "usage" | "correction";
  readonly sessionId: string;
  readonly sessionName: string | null;
  readonly fromMs: number;
  readonly toMs: number;
  readonly heldMs: number;
  readonly chargedMs: number;
  readonly busyMs: number;
  readonly pricePerHour: number | null;
  readonly cost: number;
  readonly model: string;
  readonly gpuUuid: string;
  readonly serverName: string;
  readonly user: string;
  readonly client: string;
  readonly project: string | null;
  readonly program: string | null;
  readonly labels: Readonly<Record<string, string>>;
  /** Why it was not charged, or why it was corrected. */
  readonly note: string | null;
}

export interface FocusPool {
  readonly id: string;
  readonly name: string;
  readonly currency: string;
  readonly zone: string;
}

type Column = (record: FocusRecord, pool: FocusPool) => CsvCell;

const instant = (ms: number): string => new Date(ms).toISOString();
const hours = (ms: number): string => (ms / HOUR_MS).toFixed(6);
const priceOf: Column = ({ pricePerHour }) => (pricePerHour === null ? null : formatAmount(pricePerHour));
const costOfRecord: Column = ({ cost }) => formatAmount(cost);
const nothing: Column = () => null;

/** The columns of FOCUS 1.2 that a pool of GPUs has an answer for, those that must be there, and ours (`x_`). */
const COLUMNS: Readonly<Record<string, Column>> = {
  BilledCost: costOfRecord,
  BillingAccountId: (_, { id }) => id,
  BillingAccountName: (_, { name }) => name,
  BillingCurrency: (_, { currency }) => currency,
  BillingPeriodEnd: ({ fromMs }, { zone }) => instant(nextMonth(fromMs, zone)),
  BillingPeriodStart: ({ fromMs }, { zone }) => instant(startOfMonth(fromMs, zone)),
  ChargeCategory: () => "Usage",
  ChargeClass: ({ kind }) => (kind === "correction" ? "Correction" : null),
  ChargeDescription: ({ kind, model, note }) => {
    const what = kind === "correction" ? `Correction, ${model}` : `Time on ${model}`;
    return note === null ? what : `${what}: ${note}`;
  },
  ChargeFrequency: () => "Usage-Based",
  ChargePeriodEnd: ({ toMs }) => instant(toMs),
  ChargePeriodStart: ({ fromMs }) => instant(fromMs),
  ConsumedQuantity: ({ heldMs }) => hours(heldMs),
  ConsumedUnit: () => "GPU Hours",
  ContractedCost: costOfRecord,
  ContractedUnitPrice: priceOf,
  EffectiveCost: costOfRecord,
  InvoiceIssuerName: (_, { name }) => name,
  ListCost: costOfRecord,
  ListUnitPrice: priceOf,
  PricingCategory: ({ pricePerHour }) => (pricePerHour === null ? null : "Standard"),
  PricingQuantity: ({ chargedMs }) => hours(chargedMs),
  PricingUnit: () => "GPU Hours",
  ProviderName: (_, { name }) => name,
  PublisherName: (_, { name }) => name,
  RegionId: nothing,
  RegionName: nothing,
  ResourceId: ({ gpuUuid }) => gpuUuid,
  ResourceName: ({ serverName, model }) => `${model} on ${serverName}`,
  ResourceType: () => "GPU",
  ServiceCategory: () => "Compute",
  ServiceName: () => "GPU sessions",
  SkuId: ({ model }) => model,
  SkuPriceId: ({ model, pricePerHour }) =>
    pricePerHour === null ? null : `${model} at ${formatAmount(pricePerHour)}`,
  SubAccountId: ({ project }) => project,
  SubAccountName: ({ project }) => project,
  Tags: ({ labels }) => JSON.stringify(labels),
  x_BusyGpuSeconds: ({ busyMs }) => (busyMs / 1_000).toFixed(3),
  x_Client: ({ client }) => client,
  x_Program: ({ program }) => program,
  x_SessionId: ({ sessionId }) => sessionId,
  x_SessionName: ({ sessionName }) => sessionName,
  x_User: ({ user }) => user,
};

export const FOCUS_HEADER: readonly string[] = Object.keys(COLUMNS);

export function focusRow(record: FocusRecord, pool: FocusPool): readonly CsvCell[] {
  return Object.values(COLUMNS).map((column) => column(record, pool));
}
