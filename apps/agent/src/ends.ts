import { readFileSync } from "node:fs";
import { replacePrivateFile } from "@farpool/client-api";
import { sessionIdSchema, type DesiredSession, type SessionId } from "@farpool/contract";
import type { Logger } from "pino";
import * as z from "zod";
import type { Clock } from "./clock.ts";

/** The manager ends a session itself, and says why: this is for when it is away. */
const MARGIN_MS = 5_000;

const fileSchema = z.array(z.object({ id: sessionIdSchema, endsAt: z.iso.datetime() }));

/** When sessions end, whether or not a manager is there to say so. The next agent of this server knows it, too. */
export interface Ends {
  /** What the manager has said last; sessions that it does not name are its business no longer. */
  note(sessions: readonly DesiredSession[]): void;
  isOver(id: SessionId): boolean;
  /** Until the next session is over; undefined: none will be. */
  nextMs(): number | undefined;
}

interface Options {
  /** Left out: nothing is kept. */
  readonly file?: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

export function createEnds({ file, clock, logger }: Options): Ends {
  /** By the clock that nobody sets: an hour more or less by the other one would end what has an hour left. */
  let deadlines = read();
  let kept = "";

  function read(): Map<SessionId, number> {
    if (file === undefined) return new Map();
    const { wallMs, monotonicMs } = clock.now();
    try {
      const all = fileSchema.parse(JSON.parse(readFileSync(file, "utf8")));
      // Sessions may have been given more time while no agent was here: a manager that is there says so first.
      const earliest = monotonicMs + MARGIN_MS;
      return new Map(
        all.map(({ id, endsAt }) => [id, Math.max(earliest, Date.parse(endsAt) - wallMs + monotonicMs)]),
      );
    } catch (error) {
      const isNew = error instanceof Error && "code" in error && error.code === "ENOENT";
      if (!isNew)
        logger.warn({ err: error, file }, "when sessions end is not known until the manager says so");
      return new Map();
    }
  }

  function keep(): void {
    const { wallMs, monotonicMs } = clock.now();
    // Whole seconds: what is told again is not written again.
    const second = (ms: number): string => new Date(Math.round(ms / 1_000) * 1_000).toISOString();
    const all = [...deadlines].map(([id, at]) => ({ id, endsAt: second(at - monotonicMs + wallMs) }));
    const text = `${JSON.stringify(all)}\n`;
    if (file === undefined || text === kept) return;
    try {
      replacePrivateFile(file, text);
      kept = text;
    } catch (error) {
      logger.warn({ err: error, file }, "when sessions end cannot be kept for the next agent");
    }
  }

  return {
    note(sessions) {
      const { monotonicMs } = clock.now();
      deadlines = new Map(
        sessions.flatMap(({ id, endsInMs }) =>
          endsInMs === null ? [] : [[id, monotonicMs + endsInMs + MARGIN_MS] as const],
        ),
      );
      keep();
    },
    isOver: (id) => (deadlines.get(id) ?? Infinity) <= clock.now().monotonicMs,
    nextMs() {
      const { monotonicMs } = clock.now();
      const left = [...deadlines.values()].map((at) => at - monotonicMs).filter((ms) => ms > 0);
      return left.length === 0 ? undefined : Math.min(...left);
    },
  };
}
