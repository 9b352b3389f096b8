import type { ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  type ConnectionId,
  type Session,
  type SessionGpus,
  type SessionId,
  type Thumbprint,
} from "@farpool/contract";
import type { SigningKey } from "@farpool/identity";
import { processStart } from "@farpool/os";
import { createAdmissions, type Admissions } from "../run/admission.ts";
import { sendEndNotice } from "../run/end-notice.ts";
import { createGpuFacts, type GpuFacts } from "../run/gpu-facts.ts";
import { keep } from "../run/keep.ts";
import { questionsOf, untilActive, type SessionHandle, type Waiting } from "../run/session.ts";
import type { KnownProcess } from "./state-file.ts";

/** How often a process is looked after that an earlier service let in: its pidfd went with that service. */
const LOOK_MS = 1_000;

/** A session of the service, and who is in it. */
export interface HeldSession {
  readonly handle: SessionHandle;
  /** Something else is asked for by now: it goes back as soon as nobody is in it. */
  readonly isOutdated: boolean;
  readonly admissions: Admissions;
  /** For NVML. */
  readonly gpuFacts: GpuFacts;
  /** A process of it has ended: its worker ends now. */
  forget(connectionId: ConnectionId): void;
  /** What the next service has to know. */
  processes(): readonly KnownProcess[];
  /** The same for people: each process once, though it has a connection to every server. */
  programs(): ReadonlyArray<Pick<KnownProcess, "pid" | "uid" | "program">>;
  /** Nothing is asked or told any more; the session itself goes on. */
  close(): void;
}

interface Parts {
  readonly handle: SessionHandle;
  readonly isOutdated: boolean;
  readonly clientKey: SigningKey;
  readonly known: readonly KnownProcess[];
  /** The session's GPUs by the names that programs are told. */
  readonly asNamed: (told: SessionGpus) => SessionGpus;
  /** Called when somebody has left. */
  readonly changed: () => void;
}

export function openHeld({ handle, isOutdated, clientKey, known, asNamed, changed }: Parts): HeldSession {
  const { session, connection } = handle;
  const closing = new AbortController();
  const admissions = createAdmissions({
    sessionId: session.id,
    connection,
    clientKey,
    renewGrant: (serverId) => handle.renewGrant(serverId),
    known: known.map(({ connectionId, server, keyHash, program, pid, uid, start }) => ({
      ...{ connectionId, server, keyHash, program },
      peer: { pid, uid, start },
    })),
  });

  function forget(connectionId: ConnectionId): void {
    const way = admissions.forget(connectionId);
    const notice = { sessionId: session.id, connectionId, graceMs: connection.graceSeconds * 1_000 };
    if (way !== undefined) void sendEndNotice({ ...notice, connection: way, signal: closing.signal });
    changed();
  }

  // Who was here before is followed by looking; a program that comes is followed by the kernel.
  const inherited = new Set(known);
  const look = setInterval(() => {
    for (const process of inherited) {
      if (isAlive(process)) continue;
      inherited.delete(process);
      forget(process.connectionId);
    }
    if (inherited.size === 0) clearInterval(look);
  }, LOOK_MS);
  look.unref();

  return {
    handle,
    isOutdated,
    admissions,
    gpuFacts: createGpuFacts(async () => asNamed(await handle.readGpus())),
    forget,
    processes: () =>
      admissions.processes().map(({ peer, connectionId, server, keyHash, program }) => ({
        ...{ connectionId, server, keyHash, program },
        ...{ pid: peer.pid, uid: peer.uid, start: peer.start },
      })),
    programs() {
      const all = admissions.processes().map(({ peer, program }) => ({ ...peer, program }));
      return [...new Map(all.map((each) => [`${each.pid} ${each.start}`, each])).values()];
    },
    close() {
      clearInterval(look);
      closing.abort();
      admissions.stop();
    },
  };
}

/** The session that was asked for before, if it lives. */
export async function findSession(
  client: ManagerClient,
  sessionId: SessionId,
  clientKey: Thumbprint,
): Promise<Session | undefined> {
  try {
    const found = await client.call("showSession", { params: { sessionId } });
    const isOurs = found.purpose === "service" && found.clientKey === clientKey;
    return isOurs && found.state !== "ended" ? found : undefined;
  } catch (error) {
    if (error instanceof FarpoolError && error.code === "FARPOOL_NOT_FOUND") return undefined;
    throw error;
  }
}

/** Keeps a session that was found, once it is there: its programs have noticed nothing. Undefined: it has ended meanwhile. */
export async function adoptSession(
  client: ManagerClient,
  found: Session,
  waiting: Waiting,
): Promise<SessionHandle | undefined> {
  const params = { sessionId: found.id };
  const released = new AbortController();
  const keeper = keep(client, found, released.signal);
  try {
    const session = await untilActive(client, found, waiting);
    return {
      session,
      connection: await client.call("connectSession", { params }),
      goesOn: false,
      ...questionsOf(client, found.id, released.signal),
      onEnded: keeper.onEnded,
      onNotice: keeper.onNotice,
      async end() {
        released.abort();
        await client.call("endSession", { params, body: { reason: "finished" } }, { timeoutMs: 5_000 });
      },
    };
  } catch (error) {
    released.abort();
    if (error instanceof FarpoolError && error.code === "FARPOOL_SESSION_ENDED") return undefined;
    throw error;
  }
}

/** Its number may be another process's by now. */
export function isAlive({ pid, start }: KnownProcess): boolean {
  try {
    return processStart(pid) === start;
  } catch {
    return false;
  }
}
