import type { AgentReport, DesiredSession, DesiredState, ServerId, SessionId } from "@farpool/contract";
import type { Logger } from "pino";
import type { AcceptorConnection } from "./acceptor-connection.ts";
import {
  AcceptorRefusal,
  type AcceptorSession,
  type AcceptorStatus,
  type RefusedEvent,
  type WorkerEvent,
} from "./acceptor-protocol.ts";
import { SYSTEM_CLOCK } from "./clock.ts";
import { createEnds, type Ends } from "./ends.ts";
import { planSessions } from "./plan.ts";
import { createRefusals } from "./refusals.ts";
import type { Samples } from "./samples.ts";

type ReportedWorker = AgentReport["workers"][number];

/** So many ended workers are told at once; the others stay where they are until the next time. */
const MOST_ENDED = 5_000;

export interface Reconciler {
  setDesired(desired: DesiredState): void;
  setAcceptor(acceptor: AcceptorConnection | undefined): void;
  onEvent(event: WorkerEvent | RefusedEvent): void;
  /** Look again soon: something may have changed. */
  poke(): void;
  /** Whether a report would say what the last one said, as far as the manager has not forgotten it. */
  hasNothingNew(): Promise<boolean>;
}

/** A report is repeated after so long, whatever has changed. */
const TELL_AGAIN_MS = 30_000;

const DURATION_OVER = "its maximum duration is over, and the manager is away";
/** Node knows no longer ones. */
const LONGEST_TIMER_MS = 86_400_000;

/** What the manager was told last, when that was all there was to tell. */
interface ToldState {
  readonly link: AcceptorConnection;
  readonly text: string;
  readonly atMs: number;
}

interface ReconcilerOptions {
  readonly serverId: ServerId;
  readonly send: (report: AgentReport) => Promise<void>;
  /** How busy workers were, until it was told. */
  readonly samples?: Samples;
  /** When sessions end while the manager is away. */
  readonly ends?: Ends;
  readonly logger: Logger;
}

/**
 * Makes the acceptor hold what the manager wants, and tells the manager what it does hold. Works on the
 * newest state only, one round at a time; every step may be repeated.
 */
export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { serverId, send, samples, logger } = options;
  const ends = options.ends ?? createEnds({ clock: SYSTEM_CLOCK, logger });
  let desired: DesiredState | undefined;
  let acceptor: AcceptorConnection | undefined;
  let dirty = false;
  let running = false;
  const closing = new Set<SessionId>();
  const refusals = createRefusals(SYSTEM_CLOCK);
  /** What the acceptor was last told to trust, as text. */
  let trusted: { readonly link: AcceptorConnection; readonly text: string } | undefined;
  let told: ToldState | undefined;
  let nextEnd: NodeJS.Timeout | undefined;
  /** Workers that ended, until the manager has been told. */
  const ended = new Map<string, ReportedWorker>();

  function poke(): void {
    dirty = true;
    if (running) return;
    running = true;
    void (async () => {
      while (dirty) {
        dirty = false;
        await round().catch((error: unknown) =>
          logger.warn({ err: error }, "round failed, will be repeated"),
        );
      }
      running = false;
    })();
  }

  /** The manager may be away when a session is over. */
  function lookAgainAtNextEnd(): void {
    clearTimeout(nextEnd);
    const ms = ends.nextMs();
    if (ms === undefined) return;
    nextEnd = setTimeout(poke, Math.min(ms + 1, LONGEST_TIMER_MS));
    nextEnd.unref();
  }

  async function round(): Promise<void> {
    const link = acceptor;
    if (link === undefined) return;
    lookAgainAtNextEnd();
    const said = desired;
    const status = await link.status();
    for (const { id } of status.sessions) if (ends.isOver(id)) closeSession(link, id, DURATION_OVER);
    // Without a manager's word nothing else is closed: what runs goes on.
    if (said === undefined) return;
    const goal = { ...said, sessions: said.sessions.filter(({ id }) => !ends.isOver(id)) };
    const held = status.sessions.map((session) => session.id);
    const plan = planSessions(goal.sessions, status.sessions);
    const withTrust = ({ endsInMs: _, ...session }: DesiredSession): AcceptorSession => ({
      ...session,
      trust: { serverId, ...goal.trust },
    });
    const outcomes = await Promise.all(plan.open.map((session) => openSession(link, withTrust(session))));
    const isKept = ({ id }: DesiredSession): boolean => held.includes(id) && !closing.has(id);
    const kept = goal.sessions.filter((session) => isKept(session) && !plan.open.includes(session));
    await spreadTrust(link, goal.trust, kept.map(withTrust));
    for (const id of plan.close) closeSession(link, id, "the session has ended");
    const opened = outcomes.flatMap(({ id, failure }) => (failure === undefined ? [id] : []));
    const failures = outcomes.flatMap(({ id, failure }) =>
      typeof failure === "string" ? [{ sessionId: id, message: failure }] : [],
    );
    const gone = endedWorkers(status);
    told = undefined;
    const refused = refusals.pending();
    const sampled = samples?.pending() ?? [];
    await send({
      appliedRevision: goal.revision,
      openSessions: [...new Set([...held, ...opened, ...closing])],
      failures,
      workers: [...livingWorkers(status), ...gone],
      refusals: [...refused],
      samples: [...sampled],
    });
    const isSettled = outcomes.length === 0 && closing.size === 0 && gone.length === 0;
    if (isSettled) told = { link, text: stateText(goal, status), atMs: performance.now() };
    refusals.told(refused);
    samples?.told(sampled);
    const connections = gone.map(({ worker }) => worker.connectionId);
    for (const connectionId of connections) ended.delete(connectionId);
    // Until here the acceptor keeps what they have counted: neither of us may die with it.
    if (connections.length > 0) await link.forget(connections).catch(ignoreUnknownOp);
  }

  async function hasNothingNew(): Promise<boolean> {
    const last = told;
    const goal = desired;
    if (last === undefined || goal === undefined || last.link !== acceptor || running) return false;
    if (performance.now() - last.atMs > TELL_AGAIN_MS || ended.size > 0) return false;
    if (refusals.pending().length > 0 || (samples?.pending().length ?? 0) > 0) return false;
    const status = await last.link.status();
    return status.ended.length === 0 && told === last && stateText(goal, status) === last.text;
  }

  function stateText({ revision }: DesiredState, status: AcceptorStatus): string {
    const open = status.sessions.map(({ id, isOpen }) => [id, isOpen]);
    return JSON.stringify([revision, open, livingWorkers(status)]);
  }

  /** Sessions that were open already learn what has changed in whom to trust: a client was revoked, say. */
  async function spreadTrust(
    link: AcceptorConnection,
    trust: DesiredState["trust"],
    kept: readonly AcceptorSession[],
  ): Promise<void> {
    const text = JSON.stringify(trust);
    if (trusted?.link === link && trusted.text === text) return;
    await Promise.all(
      kept.map((session) =>
        link
          .openSession(session)
          .catch((error: unknown) =>
            logger.warn({ err: error, session: session.id }, "session not told whom to trust"),
          ),
      ),
    );
    trusted = { link, text };
  }

  function livingWorkers(status: AcceptorStatus): ReportedWorker[] {
    return workersOf(status).filter(({ worker }) => !hasEnded(worker) && !ended.has(worker.connectionId));
  }

  /** Those whose end was told by an event, and those that the acceptor still keeps: an agent may have died before. */
  function endedWorkers(status: AcceptorStatus): ReportedWorker[] {
    const kept = [...status.ended, ...workersOf(status).filter(({ worker }) => hasEnded(worker))];
    const all = new Map<string, ReportedWorker>(kept.map((each) => [each.worker.connectionId, each]));
    for (const [connectionId, each] of ended) all.set(connectionId, each);
    return [...all.values()].slice(0, MOST_ENDED);
  }

  /** `failure` is a sentence when the acceptor refused for good, null when it is worth another try. */
  async function openSession(
    link: AcceptorConnection,
    session: AcceptorSession,
  ): Promise<{ id: SessionId; failure?: string | null }> {
    try {
      await link.openSession(session);
      logger.info({ session: session.id, gpus: session.gpus }, "session opened");
      return { id: session.id };
    } catch (error) {
      logger.warn({ err: error, session: session.id }, "session not opened");
      const isFinal = error instanceof AcceptorRefusal && error.code !== "closing";
      return { id: session.id, failure: isFinal ? error.message : null };
    }
  }

  /** Ending workers takes a while; other sessions do not wait for it. */
  function closeSession(link: AcceptorConnection, id: SessionId, reason: string): void {
    if (closing.has(id)) return;
    closing.add(id);
    link
      .closeSession(id, reason)
      .then(
        () => logger.info({ session: id }, "session closed"),
        (error: unknown) => {
          const isGone = error instanceof AcceptorRefusal && error.code === "unknownSession";
          if (!isGone) logger.warn({ err: error, session: id }, "session not closed");
        },
      )
      .finally(() => {
        closing.delete(id);
        poke();
      });
  }

  return {
    poke,
    hasNothingNew,
    setDesired(next) {
      ends.note(next.sessions);
      desired = next;
      poke();
    },
    setAcceptor(next) {
      acceptor = next;
      poke();
    },
    onEvent(event) {
      if (event.event === "refused") refusals.add(event);
      else if (event.event === "workerEnded")
        ended.set(event.worker.connectionId, { sessionId: event.sessionId, worker: event.worker });
      poke();
    },
  };
}

function workersOf(status: AcceptorStatus): ReportedWorker[] {
  return status.sessions.flatMap(({ id, workers }) => workers.map((worker) => ({ sessionId: id, worker })));
}

function hasEnded({ endedAt }: ReportedWorker["worker"]): boolean {
  return endedAt !== null && endedAt !== undefined;
}

/** An acceptor of the release before keeps nothing that could be forgotten. */
function ignoreUnknownOp(error: unknown): void {
  if (!(error instanceof AcceptorRefusal && error.code === "unknownOp")) throw error;
}
