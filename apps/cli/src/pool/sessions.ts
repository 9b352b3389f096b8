import {
  formatDuration,
  formatRequest,
  sessionIdSchema,
  FarpoolError,
  type Session,
  type SessionId,
} from "@farpool/contract";
import { print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";
import { describeGpus, describeServers, heldLine, usageLine } from "../run/report.ts";

export async function list(isJson: boolean, ended: number): Promise<number> {
  const answer = await withPool((client) => client.call("listSessions", { query: { ended } }));
  if (isJson) printJson(answer);
  else print(answer.sessions.length === 0 ? "no sessions" : sessionTable(answer.sessions));
  return 0;
}

export function sessionTable(sessions: readonly Session[]): string {
  const rows = sessions.map((session) => [
    session.id,
    session.name ?? "-",
    session.state,
    session.gpus.length === 0 ? formatRequest(session.count, session.size) : describeGpus(session),
    describeServers(session) ?? "-",
    `${session.client.user}@${session.client.host}`,
    session.client.program ?? "-",
    session.queue === null ? formatDuration(session.usage.heldMs) : `position ${session.queue.position}`,
  ]);
  return table(["SESSION", "NAME", "STATE", "GPUS", "SERVER", "USER", "PROGRAM", "HELD"], rows);
}

export async function show(isJson: boolean, text: string): Promise<number> {
  const sessionId = parseId(text);
  const session = await withPool((client) => client.call("showSession", { params: { sessionId } }));
  if (isJson) {
    printJson(session);
    return 0;
  }
  const lines = [
    sessionTable([session]),
    "",
    ...(session.queue === null
      ? [heldLine(session), usageLine(session)]
      : [`waits for ${session.queue.waitsFor}`]),
    ...lifetimeLines(session),
    "",
    ...session.events.map((event) => `${event.at}  ${event.state.padEnd(9)}  ${event.reason}`),
  ];
  if (session.processes.length > 0) {
    const rows = session.processes.map((each) => [
      String(each.clientPid ?? "-"),
      each.program ?? "-",
      each.startedAt,
      each.endedAt ?? "running",
      each.exit ?? "-",
      String(each.report?.calls ?? 0),
    ]);
    lines.push("", table(["PID", "PROGRAM", "STARTED", "ENDED", "WORKER'S EXIT", "CALLS"], rows));
  }
  print(lines.join("\n"));
  return 0;
}

/** Until when it lives, and what it is for. */
function lifetimeLines(session: Session): string[] {
  const { idleTimeoutMs, maxDurationMs, expiresAt, autoReleaseMs, project, labels } = session;
  const pairs = Object.entries(labels)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`);
  return [
    maxDurationMs === null
      ? undefined
      : `ends ${formatDuration(maxDurationMs)} after its grant${expiresAt === null ? "" : `, at ${expiresAt}`}`,
    idleTimeoutMs === null
      ? undefined
      : `ends when idle for ${formatDuration(idleTimeoutMs)}; last used ${session.lastBusyAt ?? "never"}`,
    session.purpose === "reserve"
      ? `reserved${autoReleaseMs === null ? "" : `, released when nothing is attached for ${formatDuration(autoReleaseMs)}`}`
      : undefined,
    project === null ? undefined : `project ${project}`,
    pairs.length === 0 ? undefined : `labels ${pairs.join(" ")}`,
  ].filter((line) => line !== undefined);
}

export async function end(isJson: boolean, text: string): Promise<number> {
  const sessionId = parseId(text);
  const session = await withPool(async (client) => {
    const { state } = await client.call("showSession", { params: { sessionId } });
    if (state === "ended")
      throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${sessionId} has ended already`);
    return client.call("endSession", { params: { sessionId }, body: { reason: "ended-by-administrator" } });
  });
  if (isJson) printJson(session);
  else say(`session ${session.id} has ended: ${heldLine(session)}`);
  return 0;
}

export function parseId(text: string): SessionId {
  const id = sessionIdSchema.safeParse(text);
  if (id.success) return id.data;
  throw new FarpoolError("FARPOOL_USAGE", `'${text}' is not a session id`, {
    hint: "session ids look like s-7f3k2m9q; 'farpool sessions list' lists them",
  });
}
