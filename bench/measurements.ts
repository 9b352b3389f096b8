/** What farpool-bench writes with `--json`. */
export interface Report {
  readonly device: string;
  readonly raw: "tcp" | "unix";
  readonly rounds: number;
  readonly cases: readonly Case[];
}

export interface Case {
  readonly name: string;
  readonly unit: string;
  readonly series: readonly (Spread & { readonly way: string })[];
  /** Ours over the other way, pair by pair. */
  readonly ratios: readonly (Spread & { readonly over: string })[];
}

export interface Spread {
  readonly median: number;
  /** Quartiles. */
  readonly low: number;
  readonly high: number;
  readonly min: number;
  readonly max: number;
}

/** What an attached process without work costs, in shares of a core. */
export interface Idle {
  readonly client: number;
  readonly worker: number;
}

/** What TLS costs, as ratios of pairs. */
export interface Tls {
  /** Launches per second with TLS over those without. */
  readonly launchRate: Spread;
  /** Bytes per second of a copy with TLS over those of one OpenSSL stream, to the device and back. */
  readonly bulkUp: Spread;
  readonly bulkDown: Spread;
  readonly opensslGigabytesPerSecond: Spread;
}

export type Transport = "tcp" | "unix";

/** Everything that one run of the bench has measured; what was left out is missing. */
export interface Measurements {
  readonly pooled: Readonly<Record<Transport, Report>>;
  /** On the null device without a pool. */
  readonly direct: Report;
  readonly idle: Idle;
  readonly tls?: Tls;
  /** With a null device whose launches cost their caller 2.4 µs, as a real driver's do. */
  readonly costly?: { readonly direct: Report; readonly pooled: Readonly<Record<Transport, Report>> };
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((one, other) => one - other);
  const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))] ?? Number.NaN;
  return { median: at(0.5), low: at(0.25), high: at(0.75), min: at(0), max: at(1) };
}

export function median(report: Report | undefined, name: string, way: string): number | undefined {
  const found = report?.cases.find((candidate) => candidate.name === name);
  return found?.series.find((series) => series.way === way)?.median;
}

export function ratio(report: Report | undefined, name: string, over: string): Spread | undefined {
  const found = report?.cases.find((candidate) => candidate.name === name);
  return found?.ratios.find((candidate) => candidate.over === over);
}
