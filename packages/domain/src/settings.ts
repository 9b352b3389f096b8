/** How a pool is scheduled. Kept in the database, so all managers do the same. */
export interface SchedulingSettings {
  /** After this time half of what a user had is forgotten. */
  readonly halfLifeMs: number;
  /** GPUs are kept free for the first in the queue when it has waited for so long. */
  readonly reserveAfterMs: number;
  /** A waiting session rises by one point of priority in this time, up to the highest that waits. */
  readonly agingMs: number;
  /** At most this part of all GPUs is kept at a time, though always enough for one session. */
  readonly keptShare: number;
}

export const DEFAULT_SCHEDULING: SchedulingSettings = {
  halfLifeMs: 86_400_000,
  reserveAfterMs: 120_000,
  agingMs: 300_000,
  keptShare: 0.05,
};
