import { join } from "node:path";
import { runOrFail } from "../scripts/process.ts";
import { root } from "../scripts/repository.ts";
import { type Report, type Tls, median, spreadOf } from "./measurements.ts";

export interface TlsSettings {
  readonly rounds: number;
  /** PEM with a certificate and its key, for OpenSSL. */
  readonly identity: string;
  /** Cases of farpool-bench through a pool whose connections are in clear, and through one with TLS. */
  readonly plain: (words: readonly string[]) => Promise<Report>;
  readonly tls: (words: readonly string[]) => Promise<Report>;
}

/** Copies of 64 MiB in each turn, and as much for OpenSSL: the first megabytes of a connection are slower with both. */
const copies = 8;
const streamMebibytes = copies * 64;
const cases = ["sustained launches", "bulk HtoD 64 MiB", "bulk DtoH 64 MiB"] as const;

/** What TLS costs: the same cases with and without it and one stream of OpenSSL's, in turn. */
export async function measureTls({ rounds, identity, plain, tls }: TlsSettings): Promise<Tls> {
  const words = ["--rounds", String(copies), "--alone", "--only", cases.join(",")];
  const launches: number[] = [];
  const up: number[] = [];
  const down: number[] = [];
  const streams: number[] = [];
  for (let round = 0; round < rounds; round++) {
    // What changes while it is measured, as a processor that grows warm, is no advantage of either.
    const early = await (round % 2 === 0 ? plain : tls)(words);
    const stream = await opensslStream(identity);
    const late = await (round % 2 === 0 ? tls : plain)(words);
    const [clear, sealed] = round % 2 === 0 ? [early, late] : [late, early];
    launches.push(figure(clear, cases[0]) / figure(sealed, cases[0]));
    up.push(figure(sealed, cases[1]) / stream);
    down.push(figure(sealed, cases[2]) / stream);
    streams.push(stream);
  }
  return {
    launchRate: spreadOf(launches),
    bulkUp: spreadOf(up),
    bulkDown: spreadOf(down),
    opensslGigabytesPerSecond: spreadOf(streams),
  };
}

function figure(report: Report, name: string): number {
  const found = median(report, name, "cuda");
  if (found === undefined) throw new Error(`farpool-bench has not measured '${name}'`);
  return found;
}

async function opensslStream(identity: string): Promise<number> {
  const { stdout } = await runOrFail({
    command: "python3",
    arguments: [join(root, "bench", "tls-stream.py"), identity, String(streamMebibytes)],
    log: "bench-openssl",
  });
  return Number(stdout.trim());
}
