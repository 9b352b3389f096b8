import { expect, test } from "vitest";
import {
  apportion,
  busyPerSegment,
  costOf,
  csv,
  dayOf,
  FOCUS_HEADER,
  focusRow,
  formatAmount,
  HOUR_MS,
  mark,
  nextDay,
  nextMonth,
  OPENING,
  parseAmount,
  priceAt,
  segmentsOf,
  settleableUntil,
  startOfDay,
  startOfMonth,
  type Holding,
  type Price,
} from "./index.ts";

const ms = (text: string): number => Date.parse(text);
const WHOLE = { part: 1, whole: 1 };
const H200 = "NVIDIA H200";
const gpu = { model: H200, share: WHOLE };
const price = (perHour: number, from: string, to: string | null = null): Price => ({
  model: H200,
  perHour,
  fromMs: ms(from),
  toMs: to === null ? null : ms(to),
});
const holding = (granted: string, ended: string | null, more: Partial<Holding> = {}): Holding => ({
  models: [H200],
  grantedMs: ms(granted),
  activeMs: ms(granted),
  endedMs: ended === null ? null : ms(ended),
  settledMs: null,
  outages: [],
  ...more,
});
const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);

test("money is read and written in 1/10,000", () => {
  expect(parseAmount("12.5")).toBe(125_000);
  expect(parseAmount("0.0001")).toBe(1);
  expect(parseAmount("-3")).toBe(-30_000);
  expect(parseAmount("1.23456")).toBeUndefined();
  expect(parseAmount("1e3")).toBeUndefined();
  expect([125_000, 1, -30_000, 12_345].map(formatAmount)).toEqual(["12.50", "0.0001", "-3.00", "1.2345"]);
});

test("a cost is rounded once, half up, and does not lose digits in long sessions", () => {
  expect(costOf(HOUR_MS, WHOLE, 12_345)).toBe(12_345);
  expect(costOf(HOUR_MS / 2, WHOLE, 1)).toBe(1);
  expect(costOf(HOUR_MS / 2 - 1, WHOLE, 1)).toBe(0);
  expect(costOf(HOUR_MS, { part: 1, whole: 3 }, 30_000)).toBe(10_000);
  // 400 days at 99,999.9999 an hour: the product has 23 digits.
  expect(costOf(400 * 24 * HOUR_MS, { part: 70 << 20, whole: 140 << 20 }, 999_999_999)).toBe(
    4_799_999_995_200,
  );
});

test("whole parts always add up to what they are parts of", () => {
  expect(apportion(100, [1, 1, 1])).toEqual([34, 33, 33]);
  expect(apportion(-100, [1, 1, 1])).toEqual([-34, -33, -33]);
  expect(apportion(7, [0, 5, 0])).toEqual([0, 7, 0]);
  expect(apportion(7, [0, 0])).toEqual([7, 0]);
  expect(apportion(7, [])).toEqual([]);
});

test("days end when they do in the zone, also where a day has 23 or 25 hours or no midnight", () => {
  const berlin = "Europe/Berlin";
  expect(startOfDay("2026-03-29", berlin)).toBe(ms("2026-03-28T23:00:00Z"));
  expect(nextDay(ms("2026-03-28T23:00:00Z"), berlin)).toBe(ms("2026-03-29T22:00:00Z"));
  expect(nextDay(ms("2026-10-24T22:00:00Z"), berlin)).toBe(ms("2026-10-25T23:00:00Z"));
  expect(dayOf(ms("2026-10-25T22:59:59.999Z"), berlin)).toBe("2026-10-25");
  // Santiago's clocks go from 23:59:59 to 01:00:00.
  expect(startOfDay("2026-09-06", "America/Santiago")).toBe(ms("2026-09-06T04:00:00Z"));
  expect(nextDay(ms("2026-09-05T12:00:00Z"), "America/Santiago")).toBe(ms("2026-09-06T04:00:00Z"));
  expect(startOfDay("2026-11-30", "Pacific/Kiritimati")).toBe(ms("2026-11-29T10:00:00Z"));
  expect(startOfMonth(ms("2026-11-30T12:00:00Z"), berlin)).toBe(ms("2026-10-31T23:00:00Z"));
  expect(nextMonth(ms("2026-12-31T12:00:00Z"), berlin)).toBe(ms("2026-12-31T23:00:00Z"));
});

test("the night of 25 hours is one day of 25 hours, charged in full", () => {
  const segments = segmentsOf(gpu, holding("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"), {
    zone: "Europe/Berlin",
    prices: [price(10_000, "2026-01-01T00:00:00Z")],
    untilMs: ms("2026-12-01T00:00:00Z"),
  });
  expect(segments).toMatchObject([{ heldMs: 25 * HOUR_MS, chargedMs: 25 * HOUR_MS, cost: 250_000 }]);
});

test("a session over the end of the month is two records, each in its month", () => {
  const segments = segmentsOf(gpu, holding("2026-10-31T22:30:00Z", "2026-10-31T23:15:00Z"), {
    zone: "Europe/Berlin",
    prices: [],
    untilMs: ms("2026-12-01T00:00:00Z"),
  });
  expect(segments.map(({ fromMs, toMs }) => [fromMs, toMs])).toEqual([
    [ms("2026-10-31T22:30:00Z"), ms("2026-10-31T23:00:00Z")],
    [ms("2026-10-31T23:00:00Z"), ms("2026-10-31T23:15:00Z")],
  ]);
  expect(segments.every(({ cost, pricePerHour }) => cost === 0 && pricePerHour === null)).toBe(true);
});

test("a price that changes in the middle cuts the session there; other models' prices do not", () => {
  const segments = segmentsOf(gpu, holding("2026-11-30T10:00:00Z", "2026-11-30T12:00:00Z"), {
    zone: "UTC",
    prices: [
      price(10_000, "2026-01-01T00:00:00Z"),
      price(20_000, "2026-11-30T11:30:00Z"),
      { ...price(5, "2026-11-30T11:00:00Z"), model: "NVIDIA L4" },
    ],
    untilMs: ms("2026-12-01T00:00:00Z"),
  });
  expect(segments.map(({ chargedMs, pricePerHour, cost }) => [chargedMs, pricePerHour, cost])).toEqual([
    [1.5 * HOUR_MS, 10_000, 15_000],
    [0.5 * HOUR_MS, 20_000, 10_000],
  ]);
});

test("a price that is over leaves the price of all models, or none", () => {
  const prices = [price(10_000, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")];
  expect(priceAt(prices, H200, ms("2026-01-31T23:59:59Z"))).toBe(10_000);
  expect(priceAt(prices, H200, ms("2026-02-01T00:00:00Z"))).toBeNull();
  const all: Price = { model: null, perHour: 7, fromMs: 0, toMs: null };
  expect(priceAt([...prices, all], H200, ms("2026-02-01T00:00:00Z"))).toBe(7);
  expect(
    priceAt([all, { ...price(1, "2026-01-01T00:00:00Z"), perHour: null }], H200, ms("2026-03-01T00:00:00Z")),
  ).toBeNull();
});

test("a session of 40 days is settled day by day, and adds up to the whole, to the millisecond", () => {
  const zone = "Europe/Berlin";
  const prices = [price(31_007, "2026-01-01T00:00:00Z")];
  const [start, end] = ["2026-10-10T09:17:03.123Z", "2026-11-19T10:02:59.456Z"];
  let settledMs: number | null = null;
  const all: Array<{ fromMs: number; toMs: number; heldMs: number }> = [];
  for (let nowMs = ms(start); nowMs < ms(end) + 7 * HOUR_MS; nowMs += 7 * HOUR_MS) {
    const isOver = nowMs >= ms(end);
    const now = holding(start, isOver ? end : null, { settledMs });
    const untilMs = settleableUntil(now, { zone, prices, nowMs });
    all.push(...segmentsOf(gpu, now, { zone, prices, untilMs }));
    settledMs = untilMs;
  }
  expect(all).toHaveLength(41);
  expect(sum(all.map(({ heldMs }) => heldMs))).toBe(ms(end) - ms(start));
  all.slice(1).forEach((segment, index) => expect(segment.fromMs).toBe(all[index]?.toMs));
});

test("a clock that is set back settles nothing twice, and never counts below zero", () => {
  const tariff = { zone: "UTC", prices: [price(10_000, "2026-01-01T00:00:00Z")] };
  const settledMs = ms("2026-11-30T00:00:00Z");
  const back = holding("2026-11-29T20:00:00Z", null, { settledMs });
  const nowMs = ms("2026-11-29T21:00:00Z");
  expect(settleableUntil(back, { ...tariff, nowMs })).toBe(settledMs);
  expect(segmentsOf(gpu, back, { ...tariff, untilMs: nowMs })).toEqual([]);
  expect(
    segmentsOf(gpu, holding("2026-11-30T10:00:00Z", "2026-11-30T09:00:00Z"), { ...tariff, untilMs: nowMs }),
  ).toEqual([]);
  // It ends while the clock is still behind: the next record begins where the last one ended, there is none.
  const ended = holding("2026-11-29T20:00:00Z", "2026-11-29T22:00:00Z", { settledMs });
  expect(segmentsOf(gpu, ended, { ...tariff, untilMs: settledMs })).toEqual([]);
});

test("what the pool could not serve is marked and not charged, all else is", () => {
  const segments = segmentsOf(
    gpu,
    holding("2026-11-30T10:00:00Z", "2026-11-30T12:00:00Z", {
      activeMs: ms("2026-11-30T10:00:30Z"),
      outages: [{ fromMs: ms("2026-11-30T11:59:00Z"), toMs: ms("2026-11-30T13:00:00Z"), reason: "lost" }],
    }),
    { zone: "UTC", prices: [price(36_000, "2026-01-01T00:00:00Z")], untilMs: ms("2026-12-01T00:00:00Z") },
  );
  expect(segments.map(({ heldMs, chargedMs, outage, cost }) => [heldMs, chargedMs, outage, cost])).toEqual([
    [30_000, 0, OPENING, 0],
    [7_200_000 - 90_000, 7_200_000 - 90_000, null, 71_100],
    [60_000, 0, "lost", 0],
  ]);
});

test("a session that never became active is charged nothing", () => {
  const never = holding("2026-11-30T10:00:00Z", "2026-11-30T10:05:00Z", { activeMs: null });
  const tariff = {
    zone: "UTC",
    prices: [price(36_000, "2026-01-01T00:00:00Z")],
    untilMs: ms("2027-01-01T00:00:00Z"),
  };
  expect(segmentsOf(gpu, never, tariff)).toMatchObject([{ heldMs: 300_000, chargedMs: 0, cost: 0 }]);
});

test("outages that overlap are told by the one that began first", () => {
  const pieces = mark({ fromMs: 0, toMs: 100 }, [
    { fromMs: 30, toMs: 60, reason: "second" },
    { fromMs: 10, toMs: 40, reason: "first" },
  ]);
  expect(pieces).toEqual([
    { fromMs: 0, toMs: 10, outage: null },
    { fromMs: 10, toMs: 40, outage: "first" },
    { fromMs: 40, toMs: 60, outage: "second" },
    { fromMs: 60, toMs: 100, outage: null },
  ]);
});

test("a slice is held and charged by its share", () => {
  const slice = { model: H200, share: { part: 35, whole: 140 } };
  const tariff = {
    zone: "UTC",
    prices: [price(40_000, "2026-01-01T00:00:00Z")],
    untilMs: ms("2027-01-01T00:00:00Z"),
  };
  expect(segmentsOf(slice, holding("2026-11-30T10:00:00Z", "2026-11-30T12:00:00Z"), tariff)).toMatchObject([
    { heldMs: HOUR_MS / 2, chargedMs: HOUR_MS / 2, cost: 20_000 },
  ]);
});

test("busy time is told where the samples saw it, and all of it in the end", () => {
  const segments = [
    { fromMs: 0, toMs: 100 },
    { fromMs: 100, toMs: 200 },
  ];
  const samples = [
    { atMs: 10, busyMs: 30 },
    { atMs: 150, busyMs: 10 },
  ];
  const process = { fromMs: 50, toMs: 200, busyMs: 39, samples };
  expect(busyPerSegment(segments, process, false)).toEqual([30, 9]);
  expect(busyPerSegment(segments, { ...process, busyMs: 80 }, true)).toEqual([60, 20]);
  expect(busyPerSegment(segments, { ...process, busyMs: 30, samples: [] }, true)).toEqual([10, 20]);
});

test("CSV keeps what others chose from becoming cells or formulas", () => {
  expect(
    csv(
      ["a", "b"],
      [
        ['say "hi", all', "=cmd()"],
        [null, -1.5],
        ["-1.50", "-x"],
      ],
    ),
  ).toBe('a,b\r\n"say ""hi"", all",\'=cmd()\r\n,-1.5\r\n-1.50,\'-x');
});

test("a record has a cell for every FOCUS column", () => {
  const row = focusRow(
    {
      kind: "correction",
      sessionId: "s-one",
      sessionName: null,
      fromMs: ms("2026-10-31T23:00:00Z"),
      toMs: ms("2026-11-01T00:00:00Z"),
      heldMs: HOUR_MS,
      chargedMs: HOUR_MS,
      busyMs: 1_500,
      pricePerHour: 12_300,
      cost: -12_300,
      model: H200,
      gpuUuid: "GPU-1",
      serverName: "gpu-01",
      user: "dev1@ws-17",
      client: "ws-17",
      project: "vision",
      program: "train",
      labels: { team: "a" },
      note: "billed twice",
    },
    { id: "pool", name: "Farpool", currency: "EUR", zone: "Europe/Berlin" },
  );
  const cells = Object.fromEntries(FOCUS_HEADER.map((name, index) => [name, row[index]]));
  expect(cells).toMatchObject({
    BilledCost: "-1.23",
    BillingPeriodStart: "2026-10-31T23:00:00.000Z",
    BillingPeriodEnd: "2026-11-30T23:00:00.000Z",
    ChargeClass: "Correction",
    ChargeDescription: "Correction, NVIDIA H200: billed twice",
    ConsumedQuantity: "1.000000",
    ListUnitPrice: "1.23",
    SubAccountId: "vision",
    Tags: '{"team":"a"}',
    x_BusyGpuSeconds: "1.500",
  });
});
