import { FarpoolError, type UsageKey, type UsageReport, type UsageSums } from "@farpool/contract";
import { csv, FOCUS_HEADER, focusRow, formatAmount, HOUR_MS, type CsvCell } from "@farpool/usage";
import { print, printJson, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

interface UsageOptions {
  readonly by: UsageKey | undefined;
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly isCsv: boolean;
  readonly isFocus: boolean;
  readonly isJson: boolean;
}

export async function usage(options: UsageOptions): Promise<number> {
  const forms = [options.isCsv, options.isFocus, options.isJson].filter(Boolean).length;
  if (forms > 1)
    throw new FarpoolError("FARPOOL_USAGE", "--csv, --focus and --json cannot be given together", {
      hint: null,
    });
  if (options.isFocus && options.by !== undefined) {
    throw new FarpoolError("FARPOOL_USAGE", "--focus prints every record, so it cannot be summed with --by", {
      hint: "--csv prints sums",
    });
  }
  const range = {
    ...(options.from !== undefined && { from: options.from }),
    ...(options.to !== undefined && { to: options.to }),
  };
  if (options.isFocus) await printFocus(range);
  else {
    const by = options.by ?? "user";
    const report = await withPool((client) => client.call("usage", { query: { by, ...range } }));
    if (options.isJson) printJson(report);
    else print(options.isCsv ? usageCsv(report) : usageTable(report));
  }
  return 0;
}

const seconds = (ms: number): string => (ms / 1_000).toFixed(3);
const hours = (ms: number): string => (ms / HOUR_MS).toFixed(2);

function usageCsv({ by, currency, rows }: UsageReport): string {
  const header = [
    by,
    "about",
    "sessions",
    "held_gpu_seconds",
    "charged_gpu_seconds",
    "busy_gpu_seconds",
    "cost",
    "currency",
  ];
  return csv(
    header,
    rows.map((row): CsvCell[] => [
      row.key,
      row.about,
      row.sessions,
      seconds(row.heldMs),
      seconds(row.chargedMs),
      seconds(row.busyMs),
      formatAmount(row.cost),
      currency,
    ]),
  );
}

function usageTable({ by, currency, rows, total }: UsageReport): string {
  if (rows.length === 0) return "nothing was used";
  const hasAbout = rows.some(({ about }) => about !== null);
  const cells = (sums: UsageSums): string[] => [
    String(sums.sessions),
    hours(sums.heldMs),
    hours(sums.chargedMs),
    hours(sums.busyMs),
    formatAmount(sums.cost),
  ];
  const about = (text: string | null): string[] => (hasAbout ? [text ?? "-"] : []);
  const header = [by.toUpperCase(), ...(hasAbout ? ["ABOUT"] : [])];
  return table(
    [...header, "SESSIONS", "HELD", "CHARGED", "BUSY", `COST ${currency}`],
    [
      ...rows.map((row) => [row.key ?? "-", ...about(row.about), ...cells(row)]),
      ["in all", ...about(""), ...cells(total)],
    ],
  );
}

async function printFocus(range: { readonly from?: string; readonly to?: string }): Promise<void> {
  await withPool(async (client) => {
    let isFirst = true;
    for (let after: number | null = 0; after !== null;) {
      const page: Awaited<ReturnType<typeof client.call<"usageRecords">>> = await client.call(
        "usageRecords",
        {
          query: { ...range, after },
        },
      );
      const pool = { id: page.poolId, name: "Farpool", currency: page.currency, zone: page.timeZone };
      const rows = page.records.map((record) =>
        focusRow({ ...record, fromMs: Date.parse(record.fromAt), toMs: Date.parse(record.toAt) }, pool),
      );
      const text = csv(FOCUS_HEADER, rows);
      if (isFirst) print(text);
      else if (rows.length > 0) print(text.slice(text.indexOf("\r\n") + 2));
      isFirst = false;
      after = page.next;
    }
  });
}
