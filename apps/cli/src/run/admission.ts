import { createHash, randomBytes } from "node:crypto";
import {
  connectionIdSchema,
  type ConnectionId,
  type ServerId,
  type SessionConnection,
  type SessionGrant,
  type SessionId,
} from "@farpool/contract";
import { routingToken, type SigningKey } from "@farpool/identity";
import { signProcessGrant } from "@farpool/identity/grants";
import { formatEndpoint, RefusedError } from "./answer.ts";
import type { ClientProcess } from "./clients.ts";
import type { EndNotice } from "./end-notice.ts";
import { keepGrant, type GrantKeeper } from "./session-grant.ts";

/** What a shim asks (protocol 2, ARCHITECTURE 4.4). */
export interface AdmissionRequest {
  readonly peer: ClientProcess;
  readonly program: string;
  /** The public key that the shim made in memory: base64url of SPKI, DER. */
  readonly key: string;
  /** Null: a new process. Else the connection that is to be resumed. */
  readonly connection: string | null;
  /** The place of the server among the session's; null: the first, or that of the connection. */
  readonly server: string | null;
}

export interface AdmissionOptions {
  readonly sessionId: SessionId;
  readonly connection: SessionConnection;
  readonly clientKey: SigningKey;
  /** Asks the manager for a fresh session grant for one of the session's servers. */
  readonly renewGrant: (serverId: ServerId) => Promise<SessionGrant>;
  /** Whom a broker before this one has let into the session. */
  readonly known?: readonly Admitted[];
}

/** A process that was let in to a server, and the key that it may resume its connection with. */
export interface Admitted {
  readonly connectionId: ConnectionId;
  /** The server's place among the session's. */
  readonly server: number;
  readonly peer: ClientProcess;
  readonly keyHash: string;
  readonly program: string;
}

/** SPKI of an Ed25519 key is this and its 32 bytes. */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const SPKI_BYTES = SPKI_PREFIX.length + 32;

/** The lines that let a process in, and what the connection is called that they are about. */
export interface Admission extends Pick<Admitted, "connectionId" | "server"> {
  readonly lines: readonly string[];
}

export interface Admissions {
  /** Throws a `RefusedError`. */
  admit(request: AdmissionRequest): Promise<Admission>;
  /** The process is dead and resumes nothing. Answers how its server is told; undefined: it was forgotten before. */
  forget(connectionId: ConnectionId): EndNotice["connection"] | undefined;
  /** Who is in the session: a process once for each server that it has a connection to. */
  processes(): readonly Admitted[];
  /** The session is over: its grants are renewed no more. */
  stop(): void;
}

/** Signs for each process of the session what its server wants to see, and remembers for whom. */
export function createAdmissions(options: AdmissionOptions): Admissions {
  const { sessionId, connection, clientKey } = options;
  const servers = [connection, ...connection.furtherServers].map(({ serverId, endpoints, grant }, place) => ({
    ...{ place, serverId, endpoints },
    grants: keepGrant(grant, () => options.renewGrant(serverId)),
  }));
  const admitted = new Map<ConnectionId, Admitted>(
    (options.known ?? []).map((each) => [each.connectionId, each]),
  );

  function serverAt(place: string): (typeof servers)[number] {
    const server = servers.find((each) => String(each.place) === place);
    if (server !== undefined) return server;
    const expected = servers.length === 1 ? "0" : `a number from 0 to ${servers.length - 1}`;
    throw new RefusedError({
      exitCode: 69,
      cudaError: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
      sentence: `the program's libcuda.so.1 asked for server '${place.slice(0, 40)}' of session ${sessionId}, expected ${expected}: it is of another version`,
    });
  }

  function remember(made: Omit<Admitted, "connectionId">): Admitted {
    const connectionId = connectionIdSchema.parse(randomBytes(16).toString("hex"));
    const admission = { connectionId, ...made };
    admitted.set(connectionId, admission);
    return admission;
  }

  function resumed(
    named: string,
    { peer, keyHash, server }: Pick<Admitted, "peer" | "keyHash"> & { readonly server: number | undefined },
  ): Admitted {
    const id = connectionIdSchema.safeParse(named);
    const known = id.success ? admitted.get(id.data) : undefined;
    if (!id.success || known === undefined)
      throw notPermitted(`there is no connection ${named.slice(0, 40)} that could be resumed`);
    const isSame =
      known.peer.pid === peer.pid && known.peer.start === peer.start && known.peer.uid === peer.uid;
    if (!isSame)
      throw notPermitted(
        `the connection ${id.data} belongs to process ${known.peer.pid}, not to ${peer.pid}`,
      );
    if (known.keyHash !== keyHash)
      throw notPermitted(
        `the connection ${id.data} was made with another key than the one it is to be resumed with`,
      );
    if (server !== undefined && known.server !== server)
      throw notPermitted(
        `the connection ${id.data} is one to server ${known.server}, not to server ${server}`,
      );
    return known;
  }

  async function grantOf(
    { connectionId, grants }: { readonly connectionId: ConnectionId; readonly grants: GrantKeeper },
    { peer, program }: AdmissionRequest,
    processKey: Buffer,
  ): Promise<string> {
    const grant = await grants.current().catch((error: unknown) => {
      const sentence = error instanceof Error ? error.message : String(error);
      throw new RefusedError({ exitCode: 69, cudaError: "CUDA_ERROR_SYSTEM_NOT_READY", sentence });
    });
    return signProcessGrant(clientKey, {
      sessionGrant: grant.text,
      connectionId,
      processKey,
      ...peer,
      program,
      signedAt: grant.managerTime,
    });
  }

  return {
    stop() {
      for (const { grants } of servers) grants.stop();
    },
    forget(connectionId) {
      const known = admitted.get(connectionId);
      admitted.delete(connectionId);
      const server = known && servers[known.server];
      return server && { secret: connection.secret, endpoints: server.endpoints };
    },
    processes: () => [...admitted.values()],
    async admit(request) {
      const { peer, program, key, connection: named } = request;
      const processKey = parseKey(key);
      const keyHash = createHash("sha256").update(processKey).digest("base64url");
      const asked = request.server === null ? undefined : serverAt(request.server).place;
      const { connectionId, server } =
        named === null
          ? remember({ peer, keyHash, program, server: asked ?? 0 })
          : resumed(named, { peer, keyHash, server: asked });
      const { serverId, endpoints, grants } = serverAt(String(server));
      const granting = grantOf({ connectionId, grants }, request, processKey);
      const processGrant = await granting.catch((error: unknown) => {
        // Who was not let in is not in the session, and does not keep it.
        if (named === null) admitted.delete(connectionId);
        throw error;
      });
      const lines = [
        `session ${sessionId}`,
        ...(servers.length > 1 ? [`servers ${servers.length}`] : []),
        `connection ${connectionId}`,
        `token ${routingToken(connection.secret, connectionId).toString("hex")}`,
        `grant ${processGrant}`,
        ...connection.authorities.map((der) => `trust ${Buffer.from(der, "base64").toString("base64url")}`),
        `server ${serverId}`,
        `grace ${connection.graceSeconds}`,
        ...endpoints.map(formatEndpoint),
      ];
      return { connectionId, server, lines };
    },
  };
}

function parseKey(text: string): Buffer {
  const key = Buffer.from(text, "base64url");
  const isKey = key.length === SPKI_BYTES && key.subarray(0, SPKI_PREFIX.length).equals(SPKI_PREFIX);
  if (isKey) return key;
  throw new RefusedError({
    exitCode: 69,
    cudaError: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    sentence: `the program's libcuda.so.1 named a key of ${key.length} bytes, expected the ${SPKI_BYTES} bytes of an Ed25519 key: it is of another version`,
  });
}

function notPermitted(sentence: string): RefusedError {
  return new RefusedError({ exitCode: 77, cudaError: "CUDA_ERROR_NOT_PERMITTED", sentence });
}
