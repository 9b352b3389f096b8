import type { SessionGrant } from "@farpool/contract";
import { readClaims } from "@farpool/identity/grants";

/** After a failure it is tried again this soon. */
const RETRY_MS = 5_000;
/** A program that wants in waits so long for a fresh grant while the old one still holds. */
const PATIENCE_MS = 2_000;

export interface FreshGrant {
  readonly text: string;
  /** What time it is by the clock of the manager, in seconds since 1970: this machine's own may be wrong. */
  readonly managerTime: number;
}

/** A session grant that is renewed at its half-life, for as long as the session lives. */
export interface GrantKeeper {
  /** Throws when the last grant has ended and the manager gives no other. */
  current(): Promise<FreshGrant>;
  stop(): void;
}

export function keepGrant(first: SessionGrant, renew: () => Promise<SessionGrant>): GrantKeeper {
  let held = received(first);
  let isStopped = false;
  let renewal: Promise<void> | undefined;
  let failure: unknown;
  let timer: NodeJS.Timeout | undefined;

  function schedule(delayMs: number): void {
    clearTimeout(timer);
    if (isStopped) return;
    timer = setTimeout(() => void renewNow(), delayMs);
    // The program's end is what this process waits for.
    timer.unref();
  }

  function renewNow(): Promise<void> {
    renewal ??= renew()
      .then(
        (grant) => {
          held = received(grant);
          failure = undefined;
          schedule(halfLifeMs(held));
        },
        (error: unknown) => {
          failure = error;
          schedule(RETRY_MS);
        },
      )
      .finally(() => {
        renewal = undefined;
      });
    return renewal;
  }

  schedule(halfLifeMs(held));
  return {
    async current() {
      // A machine that slept missed its timers.
      if (elapsedMs(held) >= halfLifeMs(held)) await withPatience(renewNow());
      const elapsed = elapsedMs(held);
      if (elapsed >= held.validMs) {
        const why = failure instanceof Error ? failure.message : "the manager has not answered yet";
        throw new Error(`the session's grant ended and could not be renewed: ${why}`, { cause: failure });
      }
      return { text: held.text, managerTime: held.signedAt + Math.floor(elapsed / 1_000) };
    },
    stop() {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}

interface Held {
  readonly text: string;
  readonly validMs: number;
  readonly signedAt: number;
  readonly wall: number;
  readonly monotonic: number;
}

function received({ grant, validSeconds }: SessionGrant): Held {
  const { iat } = readClaims(grant);
  return {
    text: grant,
    validMs: validSeconds * 1_000,
    signedAt: typeof iat === "number" ? iat : Math.floor(Date.now() / 1_000),
    wall: Date.now(),
    monotonic: performance.now(),
  };
}

/** One clock stands still while the machine sleeps, the other may be set back. */
function elapsedMs({ wall, monotonic }: Held): number {
  return Math.max(0, Date.now() - wall, performance.now() - monotonic);
}

function halfLifeMs({ validMs }: Held): number {
  return validMs / 2;
}

async function withPatience(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, PATIENCE_MS);
  });
  await Promise.race([work, over]);
  clearTimeout(timer);
}
