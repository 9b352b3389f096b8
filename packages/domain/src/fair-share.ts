/**
 * What users have had lately: GPU-seconds held, of which half is forgotten after each half-life. So whoever had
 * much yesterday is not punished for ever, and whoever had nothing comes first.
 */

export interface Account {
  /** Decayed GPU-seconds, those of sessions that still run included. */
  readonly usedGpuSeconds: number;
  /** GPUs that are held now. */
  readonly heldGpus: number;
}

/** What is left of an amount after a while. */
export function decayed(gpuSeconds: number, elapsedMs: number, halfLifeMs: number): number {
  return gpuSeconds * 0.5 ** (Math.max(0, elapsedMs) / halfLifeMs);
}

/** Decayed GPU-seconds of GPUs that were held all the time until now. */
export function accrued(gpus: number, heldMs: number, halfLifeMs: number): number {
  const seconds = halfLifeMs / 1_000 / Math.LN2;
  return gpus * seconds * (1 - 0.5 ** (Math.max(0, heldMs) / halfLifeMs));
}

/** Accounts that are kept while time goes on, each brought up to date when it is looked at. */
export class Accounts {
  private readonly entries = new Map<string, { used: number; held: number; asOfMs: number }>();
  private readonly halfLifeMs: number;

  constructor(halfLifeMs: number) {
    this.halfLifeMs = halfLifeMs;
  }

  at(user: string, nowMs: number): Account {
    const { used, held } = this.entry(user, nowMs);
    return { usedGpuSeconds: used, heldGpus: held };
  }

  /** From now on the user holds so many GPUs more (or fewer). */
  hold(user: string, gpus: number, nowMs: number): void {
    this.entry(user, nowMs).held += gpus;
  }

  private entry(user: string, nowMs: number): { used: number; held: number } {
    const entry = this.entries.get(user) ?? { used: 0, held: 0, asOfMs: nowMs };
    this.entries.set(user, entry);
    const elapsedMs = nowMs - entry.asOfMs;
    entry.used =
      decayed(entry.used, elapsedMs, this.halfLifeMs) + accrued(entry.held, elapsedMs, this.halfLifeMs);
    entry.asOfMs = nowMs;
    return entry;
  }
}

/** Jain's index of fairness: 1 when all have the same, 1/n when one has everything. */
export function jain(amounts: readonly number[]): number {
  const sum = amounts.reduce((total, amount) => total + amount, 0);
  const squares = amounts.reduce((total, amount) => total + amount * amount, 0);
  return squares === 0 ? 1 : (sum * sum) / (amounts.length * squares);
}
