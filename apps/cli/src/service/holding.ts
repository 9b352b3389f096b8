import type { EndReason, SessionNotice } from "@farpool/contract";
import { whyEnded } from "../run/keep.ts";
import type { HeldSession } from "./held-session.ts";
import { isPassing, messageOf, NotHeld, refusalOf, stopping } from "./not-held.ts";

/** How long a program waits for a pool that does not answer before it goes on without a GPU. */
const PATIENCE_MS = 30_000;
const FIRST_PAUSE_MS = 500;
/** Also from the beginning of an attempt: one that nobody answers takes longer than this. */
const LONGEST_PAUSE_MS = 5_000;
/** What a policy refuses, an administrator may allow meanwhile. */
const REFUSED_PAUSE_MS = 60_000;
/** After an administrator or a revocation ended it: it is no accident, and is not fought. */
const ENDED_PAUSE_MS = 30_000;

/** So long a notice is part of the sentence, and an idle session's for this share of its timeout: then it has ended or been used. */
const NOTICE_MS = 600_000;
const IDLE_NOTICE_SHARE = 0.25;
/** The longest that a timer of Node's can be: a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export type HoldingState = "idle" | "waiting" | "held" | "refused";

export interface Holding {
  readonly state: HoldingState;
  /** For people: what it waits for, since when it has what, why not. */
  readonly sentence: string;
  readonly held: HeldSession | undefined;
  /** How many programs wait. */
  readonly waiting: number;
  /** The session, as soon as there is one. Rejects with a `NotHeld` when there will be none, and when `signal` aborts. */
  need(signal: AbortSignal, tell: (sentence: string) => void): Promise<HeldSession>;
  /** Somebody came or left. */
  changed(): void;
  /** Ends; with the session, or leaves it to the next service. */
  stop(session: "end" | "leave"): Promise<void>;
}

export interface HoldingOptions {
  /** Whether there is to be one though nobody needs it; asked each time. */
  readonly isAlways: () => boolean;
  /** On demand: after so long without a program it is given back; null: never. */
  readonly idleTimeoutMs: () => number | null;
  /** Asks for a session and waits for it; rejects when there will be none. `say` tells what it waits for. */
  readonly take: (signal: AbortSignal, say: (sentence: string) => void) => Promise<HeldSession>;
  /** Ends what was asked for and is not waited for any more. Never rejects. */
  readonly giveUp: () => Promise<void>;
  readonly describe: (held: HeldSession) => string;
  /** The state or its sentence is another one. */
  readonly onChange: () => void;
  readonly log: (sentence: string) => void;
}

interface Waiter {
  readonly since: number;
  readonly resolve: (held: HeldSession) => void;
  readonly reject: (error: unknown) => void;
  readonly tell: (sentence: string) => void;
}

/**
 * When the service has a session: always, or from the first program that needs it until none has needed it for a while.
 * One thing is under way at a time: taking, holding, or giving back.
 */
export function createHolding(options: HoldingOptions): Holding {
  const waiters = new Set<Waiter>();
  let state: HoldingState = "idle";
  let sentence = "no GPU is held, no program needs one";
  let held: HeldSession | undefined;
  let taking: AbortController | undefined;
  let taken: Promise<void> = Promise.resolve();
  let releasing: Promise<void> = Promise.resolve();
  let idleTimer: NodeJS.Timeout | undefined;
  /** Until then it is not asked for again by itself. */
  let pausedUntil = 0;
  let pauseTimer: NodeJS.Timeout | undefined;
  /** Ends the pause between two attempts. */
  let resume: () => void = () => undefined;
  let noticeTimer: NodeJS.Timeout | undefined;
  let isStopped = false;
  /** The session is the next service's, and so are the programs that wait. */
  let isLeaving = false;

  function become(next: HoldingState, why: string): void {
    if (state === next && sentence === why) return;
    state = next;
    sentence = why;
    for (const waiter of waiters) waiter.tell(why);
    options.onChange();
  }

  function isWanted(): boolean {
    return waiters.size > 0 || (options.isAlways() && performance.now() >= pausedUntil);
  }

  /** Starts or ends whatever follows from who waits and what is held. */
  function reconsider(): void {
    if (isStopped) return;
    if (held === undefined && taking === undefined && isWanted()) taken = take();
    if (!isWanted()) giveUpTaking();
    watchIdleness();
  }

  function pause(ms: number): void {
    pausedUntil = performance.now() + ms;
    clearTimeout(pauseTimer);
    // A timer may fire a little early by the other clock.
    pauseTimer = setTimeout(reconsider, ms + 10);
    pauseTimer.unref();
  }

  async function rest(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      resume = resolve;
      timer = setTimeout(resolve, Math.max(FIRST_PAUSE_MS, ms));
    });
    clearTimeout(timer);
  }

  function giveUpTaking(): void {
    taking?.abort();
    resume();
  }

  async function take(): Promise<void> {
    const own = new AbortController();
    taking = own;
    become("waiting", "asking the pool for GPUs");
    let pauseMs = FIRST_PAUSE_MS;
    try {
      await releasing;
      while (!own.signal.aborted) {
        const startedAt = performance.now();
        try {
          const session = await options.take(own.signal, (why) => become("waiting", why));
          if (!isStopped) found(session);
          else if (isLeaving) session.close();
          else await session.handle.end();
          return;
        } catch (error) {
          if (own.signal.aborted) break;
          if (!isPassing(error)) {
            refuse(error);
            await options.giveUp();
            return;
          }
          become("waiting", `${messageOf(error)}; it is tried again`);
          giveUpImpatient(error);
          if (!isWanted()) break;
          await rest(pauseMs - (performance.now() - startedAt));
          pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
        }
      }
      if (isLeaving) return;
      // Who has come meanwhile has the place in the queue.
      if (isStopped || !isWanted()) await options.giveUp();
      if (isStopped || !isWanted()) become("idle", "no GPU is held, no program needs one");
    } finally {
      taking = undefined;
      reconsider();
    }
  }

  function found(session: HeldSession): void {
    held = session;
    session.handle.onEnded((reason, message) => lost(session, reason, message));
    // It may have ended before anybody listened; who waits goes on waiting.
    if (held !== session) return;
    become("held", options.describe(session));
    options.log(sentence);
    session.handle.onNotice((notice) => noticed(session, notice));
    for (const waiter of waiters) waiter.resolve(session);
    waiters.clear();
  }

  /** Its users are told by the log and by the state's sentence: `service logs` and `service status`. */
  function noticed(session: HeldSession, { at, kind, text }: SessionNotice): void {
    const { id, idleTimeoutMs } = session.handle.session;
    options.log(`session ${id}: ${text}`);
    if (held !== session) return;
    const time = new Date(at).toTimeString().slice(0, 5);
    become("held", `${options.describe(session)}; at ${time}: ${text}`);
    clearTimeout(noticeTimer);
    const shownMs = kind === "idle" ? IDLE_NOTICE_SHARE * (idleTimeoutMs ?? NOTICE_MS) : NOTICE_MS;
    noticeTimer = setTimeout(() => {
      if (held === session) become("held", options.describe(session));
    }, shownMs);
    noticeTimer.unref();
  }

  function lost(session: HeldSession, reason: EndReason | null, message: string | null): void {
    if (held !== session) return;
    held = undefined;
    session.close();
    const why = whyEnded(reason, message);
    options.log(`session ${session.handle.session.id} has ended: ${why}`);
    become("idle", `session ${session.handle.session.id} has ended: ${why}`);
    // Who lost it by idleness has it again when a program needs it.
    if (reason === "idle") pausedUntil = Number.POSITIVE_INFINITY;
    else pause(reason === "ended-by-administrator" || reason === "revoked" ? ENDED_PAUSE_MS : FIRST_PAUSE_MS);
    reconsider();
  }

  function refuse(error: unknown): void {
    const refusal = refusalOf(error);
    options.log(`no GPUs: ${refusal.sentence}`);
    become("refused", refusal.sentence);
    for (const waiter of waiters) waiter.reject(new NotHeld(refusal));
    waiters.clear();
    pause(REFUSED_PAUSE_MS);
  }

  function giveUpImpatient(error: unknown): void {
    for (const waiter of waiters) {
      if (performance.now() - waiter.since < PATIENCE_MS) continue;
      waiters.delete(waiter);
      waiter.reject(new NotHeld(refusalOf(error)));
    }
  }

  function watchIdleness(): void {
    const timeoutMs = idleTimeoutMs();
    if (timeoutMs === null) {
      clearTimeout(idleTimer);
      idleTimer = undefined;
    } else idleTimer ??= setTimeout(giveBack, Math.min(timeoutMs, LONGEST_TIMER_MS));
  }

  /** Null: what is held stays, as things are. */
  function idleTimeoutMs(): number | null {
    const isIdle = held !== undefined && held.processes().length === 0 && waiters.size === 0;
    if (!isIdle || isStopped) return null;
    if (held?.isOutdated === true) return 0;
    return options.isAlways() ? null : options.idleTimeoutMs();
  }

  function giveBack(): void {
    idleTimer = undefined;
    const session = held;
    if (session === undefined || session.processes().length > 0) return;
    held = undefined;
    session.close();
    const why = session.isOutdated ? "something else is asked for by now" : "no program has used it lately";
    options.log(`session ${session.handle.session.id}: ${why}, its GPUs go back`);
    releasing = session.handle.end().catch((error: unknown) => {
      options.log(`session ${session.handle.session.id} could not be given back now: ${messageOf(error)}`);
    });
    become("idle", "no GPU is held, no program needs one");
    reconsider();
  }

  return {
    get state() {
      return state;
    },
    get sentence() {
      return sentence;
    },
    get held() {
      return held;
    },
    get waiting() {
      return waiters.size;
    },
    need(signal, tell) {
      if (held !== undefined) {
        // Until who asks is in it, or has failed to get in: then the caller says that something has changed.
        clearTimeout(idleTimer);
        idleTimer = undefined;
        return Promise.resolve(held);
      }
      // Who hears nothing until the connection is closed asks again, on the same socket.
      if (isLeaving) return new Promise(() => undefined);
      if (isStopped) return Promise.reject(new NotHeld(stopping()));
      return new Promise((resolve, reject) => {
        const waiter: Waiter = { since: performance.now(), resolve, reject, tell };
        // Who comes is not to wait for the end of a pause that began when nobody waited.
        if (waiters.size === 0) resume();
        waiters.add(waiter);
        const leave = (): void => {
          waiters.delete(waiter);
          reject(new NotHeld({ ...stopping(), sentence: "the program has hung up" }));
          reconsider();
        };
        if (signal.aborted) leave();
        else signal.addEventListener("abort", leave, { once: true });
        if (state === "waiting") tell(sentence);
        reconsider();
      });
    },
    changed: reconsider,
    async stop(session) {
      isStopped = true;
      isLeaving = session === "leave";
      clearTimeout(idleTimer);
      clearTimeout(pauseTimer);
      clearTimeout(noticeTimer);
      giveUpTaking();
      if (!isLeaving) for (const waiter of waiters) waiter.reject(new NotHeld(stopping()));
      waiters.clear();
      const last = held;
      held = undefined;
      last?.close();
      // What was asked for meanwhile is taken back.
      await taken;
      if (session === "end") await last?.handle.end();
      await releasing;
    },
  };
}
