import type { DesiredSession, SessionId } from "@farpool/contract";

export interface Plan {
  readonly open: readonly DesiredSession[];
  readonly close: readonly SessionId[];
}

/** What makes an acceptor that holds `held` hold `desired`. What it holds already is left alone: adopted. */
export function planSessions(desired: readonly DesiredSession[], held: readonly SessionId[]): Plan {
  const wanted = new Set(desired.map((session) => session.id));
  const present = new Set(held);
  return {
    open: desired.filter((session) => !present.has(session.id)),
    close: held.filter((id) => !wanted.has(id)),
  };
}
