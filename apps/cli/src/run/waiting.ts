import { constants } from "node:os";
import type { Session } from "@farpool/contract";
import { say } from "../core/output.ts";
import { ProgramError } from "./program.ts";
import { waitingLine } from "./report.ts";
import type { SessionHandle, Waiting } from "./session.ts";

/** Errors that say themselves which exit code they mean. */
export async function reportingProgramErrors(work: () => Promise<number>): Promise<number> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof SignalWhileWaiting) return error.exitCode;
    if (!(error instanceof ProgramError)) throw error;
    say(`farpool: ${error.message}`);
    return error.exitCode;
  }
}

class SignalWhileWaiting extends Error {
  readonly exitCode: number;

  constructor(name: "SIGINT" | "SIGTERM" | "SIGHUP") {
    super(name);
    this.exitCode = 128 + constants.signals[name];
  }
}

/** While waiting there is no program: a signal leaves the queue at once. */
export async function whileWaiting(
  speaks: boolean,
  take: (waiting: Waiting) => Promise<SessionHandle>,
): Promise<SessionHandle> {
  const leaving = new AbortController();
  let left: SignalWhileWaiting | undefined;
  const handlers = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((name) => {
    const handler = (): void => {
      left ??= new SignalWhileWaiting(name);
      leaving.abort();
    };
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  let said = "";
  const queued = (session: Session): void => {
    const line = waitingLine(session, Date.now());
    if (speaks && line !== said) say(line);
    said = line;
  };
  const away = (): void => {
    const line = "the pool does not answer; its queue is kept, so the place in it is too";
    if (speaks && line !== said) say(line);
    said = line;
  };
  try {
    return await take({ queued, away, signal: leaving.signal });
  } catch (error) {
    throw left ?? error;
  } finally {
    for (const remove of handlers) remove();
  }
}
