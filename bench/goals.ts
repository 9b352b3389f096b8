import { type Measurements, type Report, type Transport, median, ratio } from "./measurements.ts";

/** A goal beside what was measured for it. */
export interface Verdict {
  readonly goal: "G1" | "G2" | "G6" | "G7" | "G8" | "G9";
  readonly transport: Transport;
  readonly subject: string;
  readonly figure: number;
  readonly limit: number;
  readonly kind: "at most" | "at least";
  readonly unit: string;
  /** Quartiles of the figure, where it is a ratio of pairs. */
  readonly quartiles?: readonly [number, number];
}

type Rule = Omit<Verdict, "transport" | "figure" | "quartiles"> & {
  readonly of: (report: Report, measured: Measurements, transport: Transport) => Figure | undefined;
};

type Figure = number | { readonly median: number; readonly low: number; readonly high: number };

const ours = "cuda";
const mebibytes = [4, 16, 64] as const;
const smallCopies = [
  ["4 B", 4],
  ["4 KiB", 4096],
  ["64 KiB", 65_536],
] as const;

const rules: readonly Rule[] = [
  atMost("G1", "launch, to raw batched records (64 in a send)", {
    limit: 2.5,
    unit: "×",
    of: (report) => ratio(report, "launch", "raw x64"),
  }),
  atMost("G1", "launch by 4 threads, to one thread", {
    limit: 2,
    unit: "×",
    of: (report) => ratio(report, "launch by 4 threads", "one thread"),
  }),
  atMost("G1", "launch, to the same without a pool at 2.4 µs", {
    limit: 0.15,
    unit: "×",
    of: (_report, { costly }, transport) => ratio(costly?.pooled[transport], "launch", "direct"),
  }),
  // A crowded machine makes the launches without a pool dearer than that, which would flatter ours.
  atMost("G1", "launch, to the nominal 2.4 µs of a driver", {
    limit: 0.15,
    unit: "×",
    of: (report) => perhaps(median(report, "launch", ours), (ns) => ns / 2400),
  }),
  atLeast("G1", "sustained launches, null device at cost 0", {
    limit: 2,
    unit: "M/s",
    of: (report) => perhaps(median(report, "sustained launches", ours), (ns) => 1000 / ns),
  }),
  atMost("G1", "time of sustained launches at 2.4 µs, to the same without a pool", {
    // At least 0.95 of its rate.
    limit: 1.053,
    unit: "×",
    of: (_report, { costly }, transport) => ratio(costly?.pooled[transport], "sustained launches", "direct"),
  }),
  ...["stream synchronize", "context synchronize"].map((name) =>
    atMost("G2", `empty ${name}, beyond a raw spinning round trip`, {
      limit: 2,
      unit: "µs",
      of: (report) =>
        perhaps(median(report, name, ours), (own) =>
          perhaps(median(report, name, "raw spinning"), (raw) => own - raw),
        ),
    }),
  ),
  atMost("G2", "empty stream synchronize, parked, to a raw blocking round trip", {
    limit: 1.15,
    unit: "×",
    of: (report) => ratio(report, "stream synchronize, parked", "raw blocking"),
  }),
  ...(["client", "worker"] as const).map((side) =>
    atMost("G2", `idle ${side}, of a core`, {
      limit: 1,
      unit: "%",
      of: (_report, { idle }, transport) => (transport === "tcp" ? idle[side] * 100 : undefined),
    }),
  ),
  ...["HtoD", "DtoH"].flatMap((direction) =>
    mebibytes.map((size) =>
      atLeast("G6", `bulk ${direction} ${size} MiB, to the raw transport`, {
        limit: 0.9,
        unit: "×",
        of: (report) => ratio(report, `bulk ${direction} ${size} MiB`, "raw"),
      }),
    ),
  ),
  atMost("G6", "what a copy of 64 MiB adds to the slowest launch beside it", {
    limit: 50,
    unit: "µs",
    of: (report) => {
      const name = "slowest launch beside a copy of 64 MiB";
      return perhaps(median(report, name, ours), (beside) =>
        perhaps(median(report, name, "without a copy"), (alone) => beside - alone),
      );
    },
  }),
  ...smallCopies.map(([name, bytes]) =>
    atMost("G7", `synchronous HtoD of ${name}, to 1 µs + bytes at the raw bulk rate`, {
      limit: 1,
      unit: "×",
      of: (report) =>
        perhaps(median(report, `HtoD ${name}`, ours), (microseconds) =>
          perhaps(
            median(report, "bulk HtoD 64 MiB", "raw"),
            (gigabytesPerSecond) => microseconds / (1 + bytes / (gigabytesPerSecond * 1000)),
          ),
        ),
    }),
  ),
  atMost("G8", "cuInit of a new process", {
    limit: 5,
    unit: "ms",
    of: (report) => median(report, "cuInit in a new process", ours),
  }),
  atLeast("G9", "launches per second with TLS, to those without", {
    limit: 0.95,
    unit: "×",
    of: (_report, { tls }, transport) => (transport === "tcp" ? tls?.launchRate : undefined),
  }),
  ...(["bulkUp", "bulkDown"] as const).map((direction) =>
    atLeast("G9", `bulk ${direction === "bulkUp" ? "HtoD" : "DtoH"} 64 MiB with TLS, to one OpenSSL stream`, {
      limit: 1.6,
      unit: "×",
      of: (_report, { tls }, transport) => (transport === "tcp" ? tls?.[direction] : undefined),
    }),
  ),
];

/** Every goal for which there is a measurement, TCP first. */
export function judge(measured: Measurements): readonly Verdict[] {
  return (["tcp", "unix"] as const).flatMap((transport) =>
    rules.flatMap(({ of, ...rule }) => {
      const figure = of(measured.pooled[transport], measured, transport);
      if (figure === undefined) return [];
      if (typeof figure === "number") return [{ ...rule, transport, figure }];
      return [{ ...rule, transport, figure: figure.median, quartiles: [figure.low, figure.high] as const }];
    }),
  );
}

export function isMet({ kind, figure, limit }: Verdict): boolean {
  return kind === "at most" ? figure <= limit : figure >= limit;
}

function atMost(goal: Verdict["goal"], subject: string, rest: Pick<Rule, "limit" | "unit" | "of">): Rule {
  return { goal, subject, kind: "at most", ...rest };
}

function atLeast(goal: Verdict["goal"], subject: string, rest: Pick<Rule, "limit" | "unit" | "of">): Rule {
  return { goal, subject, kind: "at least", ...rest };
}

function perhaps<T, R>(value: T | undefined, use: (value: T) => R): R | undefined {
  return value === undefined ? undefined : use(value);
}
