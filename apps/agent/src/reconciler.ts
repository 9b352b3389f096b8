import type { AgentReport, DesiredSession, DesiredState, SessionId } from "@farpool/contract";
import type { Logger } from "pino";
import type { AcceptorConnection } from "./acceptor-connection.ts";
import { AcceptorRefusal, type AcceptorStatus, type WorkerEvent } from "./acceptor-protocol.ts";
import { planSessions } from "./plan.ts";

type ReportedWorker = AgentReport["workers"][number];

export interface Reconciler {
  setDesired(desired: DesiredState): void;
  setAcceptor(acceptor: AcceptorConnection | undefined): void;
  onEvent(event: WorkerEvent): void;
  /** Look again soon: something may have changed. */
  poke(): void;
}

/**
 * Makes the acceptor hold what the manager wants, and tells the manager what it does hold. Works on the
 * newest state only, one round at a time; every step may be repeated.
 */
export function createReconciler(send: (report: AgentReport) => Promise<void>, logger: Logger): Reconciler {
  let desired: DesiredState | undefined;
  let acceptor: AcceptorConnection | undefined;
  let dirty = false;
  let running = false;
  const closing = new Set<SessionId>();
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

  async function round(): Promise<void> {
    // Without a manager's word nothing is closed: what runs goes on.
    if (desired === undefined || acceptor === undefined) return;
    const goal = desired;
    const link = acceptor;
    const status = await link.status();
    const held = status.sessions.map((session) => session.id);
    const plan = planSessions(goal.sessions, held);
    const outcomes = await Promise.all(plan.open.map((session) => openSession(link, session)));
    for (const id of plan.close) closeSession(link, id);
    const opened = outcomes.flatMap(({ id, failure }) => (failure === undefined ? [id] : []));
    const failures = outcomes.flatMap(({ id, failure }) =>
      typeof failure === "string" ? [{ sessionId: id, message: failure }] : [],
    );
    const told = [...ended.keys()];
    await send({
      appliedRevision: goal.revision,
      openSessions: [...new Set([...held, ...opened, ...closing])],
      failures,
      workers: [...livingWorkers(status), ...ended.values()],
    });
    for (const connectionId of told) ended.delete(connectionId);
  }

  function livingWorkers(status: AcceptorStatus): ReportedWorker[] {
    return status.sessions.flatMap((session) =>
      session.workers
        .filter((worker) => !ended.has(worker.connectionId))
        .map((worker) => ({ sessionId: session.id, worker })),
    );
  }

  /** `failure` is a sentence when the acceptor refused for good, null when it is worth another try. */
  async function openSession(
    link: AcceptorConnection,
    session: DesiredSession,
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
  function closeSession(link: AcceptorConnection, id: SessionId): void {
    if (closing.has(id)) return;
    closing.add(id);
    link
      .closeSession(id, "the session has ended")
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
    setDesired(next) {
      desired = next;
      poke();
    },
    setAcceptor(next) {
      acceptor = next;
      poke();
    },
    onEvent({ event, sessionId, worker }) {
      if (event === "workerEnded") ended.set(worker.connectionId, { sessionId, worker });
      poke();
    },
  };
}
