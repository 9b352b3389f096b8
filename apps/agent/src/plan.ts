import type { DesiredSession, SessionId } from "@farpool/contract";

export interface Plan {
  readonly open: readonly DesiredSession[];
  readonly close: readonly SessionId[];
}

export interface HeldSession {
  readonly id: SessionId;
  readonly isOpen: boolean;
}

/**
 * What makes an acceptor that holds `held` hold `desired`. What is open already is left alone: adopted. What the acceptor
 * took over from one before it is opened again, as it cannot know the session's secret.
 */
export function planSessions(desired: readonly DesiredSession[], held: readonly HeldSession[]): Plan {
  const wanted = new Set(desired.map((session) => session.id));
  const present = new Set(held.filter(({ isOpen }) => isOpen).map(({ id }) => id));
  return {
    open: desired.filter((session) => !present.has(session.id)),
    close: held.map(({ id }) => id).filter((id) => !wanted.has(id)),
  };
}
