import { createHash, randomBytes } from "node:crypto";
import {
  connectionIdSchema,
  type ConnectionId,
  type SessionConnection,
  type SessionGrant,
  type SessionId,
} from "@farpool/contract";
import { routingToken, type SigningKey } from "@farpool/identity";
import { signProcessGrant } from "@farpool/identity/grants";
import { formatEndpoint, RefusedError } from "./answer.ts";
import type { ClientProcess } from "./clients.ts";
import { keepGrant } from "./session-grant.ts";

/** What a shim asks (protocol 2, ARCHITECTURE 4.4). */
export interface AdmissionRequest {
  readonly peer: ClientProcess;
  readonly program: string;
  /** The public key that the shim made in memory: base64url of SPKI, DER. */
  readonly key: string;
  /** Null: a new process. Else the connection that is to be resumed. */
  readonly connection: string | null;
}

export interface AdmissionOptions {
  readonly sessionId: SessionId;
  readonly connection: SessionConnection;
  readonly clientKey: SigningKey;
  /** Asks the manager for a fresh session grant. */
  readonly renewGrant: () => Promise<SessionGrant>;
  /** Whom a broker before this one has let into the session. */
  readonly known?: readonly Admitted[];
}

/** A process that was let in, and the key that it may resume its connection with. */
export interface Admitted {
  readonly connectionId: ConnectionId;
  readonly peer: ClientProcess;
  readonly keyHash: string;
  readonly program: string;
}

/** SPKI of an Ed25519 key is this and its 32 bytes. */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const SPKI_BYTES = SPKI_PREFIX.length + 32;
export interface Admissions {
  /** The lines that let a process in, and what its connections are called; throws a `RefusedError`. */
  admit(
    request: AdmissionRequest,
  ): Promise<{ readonly connectionId: ConnectionId; readonly lines: readonly string[] }>;
  /** The process is dead and resumes nothing. */
  forget(connectionId: ConnectionId): void;
  /** Who is in the session. */
  processes(): readonly Admitted[];
  /** The session is over: its grant is renewed no more. */
  stop(): void;
}

/** Signs for each process of the session what its server wants to see, and remembers for whom. */
export function createAdmissions(options: AdmissionOptions): Admissions {
  const { sessionId, connection, clientKey } = options;
  const grants = keepGrant(connection.grant, options.renewGrant);
  const admitted = new Map<ConnectionId, Admitted>(
    (options.known ?? []).map((each) => [each.connectionId, each]),
  );

  function remember(made: Omit<Admitted, "connectionId">): ConnectionId {
    const connectionId = connectionIdSchema.parse(randomBytes(16).toString("hex"));
    admitted.set(connectionId, { connectionId, ...made });
    return connectionId;
  }

  function resumed(named: string, peer: ClientProcess, keyHash: string): ConnectionId {
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
    return id.data;
  }

  async function grantOf(
    connectionId: ConnectionId,
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
    stop: () => grants.stop(),
    forget: (connectionId) => void admitted.delete(connectionId),
    processes: () => [...admitted.values()],
    async admit(request) {
      const { peer, program, key, connection: named } = request;
      const processKey = parseKey(key);
      const keyHash = createHash("sha256").update(processKey).digest("base64url");
      const connectionId =
        named === null ? remember({ peer, keyHash, program }) : resumed(named, peer, keyHash);
      const processGrant = await grantOf(connectionId, request, processKey).catch((error: unknown) => {
        // Who was not let in is not in the session, and does not keep it.
        if (named === null) admitted.delete(connectionId);
        throw error;
      });
      const lines = [
        `session ${sessionId}`,
        `connection ${connectionId}`,
        `token ${routingToken(connection.secret, connectionId).toString("hex")}`,
        `grant ${processGrant}`,
        ...connection.authorities.map((der) => `trust ${Buffer.from(der, "base64").toString("base64url")}`),
        `server ${connection.serverId}`,
        `grace ${connection.graceSeconds}`,
        ...connection.endpoints.map(formatEndpoint),
      ];
      return { connectionId, lines };
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
