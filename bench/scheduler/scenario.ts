import { DEFAULT_SCHEDULING } from "@farpool/domain";
import type { Figures } from "./measure.ts";
import type { SimulationOptions } from "./simulate.ts";

/** Six equal users who all want more than a sixth of the pool, up to twice as much as each other, and a modest one. */
const DEMAND = { ann: 3, ben: 3.5, cat: 4, dan: 4.5, eve: 5, fay: 6 } as const;
export const EQUALS: readonly string[] = Object.keys(DEMAND);

/** What the issue asks for: 10,000 GPUs on 1,250 servers and 100,000 sessions. */
export const LARGE: SimulationOptions = {
  seed: 20_261_130,
  servers: 1_250,
  gpusPerServer: 8,
  sessions: 100_000,
  load: 2,
  users: { ...DEMAND, modest: 0.5 },
  knownShare: 0.3,
  settings: DEFAULT_SCHEDULING,
  passEveryMs: 60_000,
  explainEvery: 20,
};

/** The same with 320 GPUs, in seconds. */
export const SMALL: SimulationOptions = { ...LARGE, servers: 40, sessions: 3_200, passEveryMs: 10_000 };

export interface Bound {
  readonly name: string;
  readonly figure: number;
  readonly limit: number;
  readonly kind: "at most" | "at least";
}

export function boundsOf({ waits, competition }: Figures): readonly Bound[] {
  const [all, eight] = [waits["all"], waits["8 GPUs"]];
  return [
    {
      name: "Jain over GPU-seconds of equal users while all of them have sessions waiting",
      figure: competition.jain,
      limit: 0.98,
      kind: "at least",
    },
    {
      name: "mean waiting of 8-GPU sessions, to the mean waiting of all sessions",
      figure: (eight?.meanMs ?? Infinity) / (all?.meanMs ?? 0),
      limit: 3,
      kind: "at most",
    },
  ];
}

export function isMet({ figure, limit, kind }: Bound): boolean {
  return kind === "at most" ? figure <= limit : figure >= limit;
}
