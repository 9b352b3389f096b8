import { createHash } from "node:crypto";
import type { ConnectionId, ServerId, SessionId, Thumbprint } from "@farpool/contract";
import { CompactSign, decodeJwt } from "jose";
import type { SigningKey } from "./keys.ts";

/** How long a session grant is good for: what a revocation takes at most when nobody can be told of it. */
export const SESSION_GRANT_SECONDS = 900;
/** How long a process may take from its grant to its connection. */
export const PROCESS_GRANT_SECONDS = 60;
/** Grants and certificates begin to be valid that long before they were signed: clocks may differ by so much. */
export const CLOCK_LEEWAY_SECONDS = 600;

export interface SessionGrantClaims {
  readonly poolId: string;
  readonly sessionId: SessionId;
  readonly serverId: ServerId;
  /** The client machine's key: only its holder can sign process grants for this session. */
  readonly client: Thumbprint;
  readonly clientName?: string;
  readonly user?: string;
  /** In seconds since 1970. */
  readonly signedAt: number;
}

/** The manager's word that the holder of a key has a session. */
export function signSessionGrant(key: SigningKey, claims: SessionGrantClaims): Promise<string> {
  const { signedAt } = claims;
  return sign(
    key,
    { alg: "EdDSA", typ: "farpool-session+jwt", kid: key.thumbprint },
    {
      iss: claims.poolId,
      sub: claims.sessionId,
      aud: claims.serverId,
      cnf: { jkt: claims.client },
      iat: signedAt,
      nbf: signedAt - CLOCK_LEEWAY_SECONDS,
      exp: signedAt + SESSION_GRANT_SECONDS,
      ...(claims.user !== undefined && { user: claims.user }),
      ...(claims.clientName !== undefined && { client: claims.clientName }),
    },
  );
}

export interface ProcessGrantClaims {
  readonly sessionGrant: string;
  readonly connectionId: ConnectionId;
  /** The public key that the process made in memory: SPKI, DER. */
  readonly processKey: Uint8Array;
  readonly uid: number;
  readonly pid: number;
  /** In clock ticks since the machine's boot: with `pid` it names the process. */
  readonly start: number;
  readonly program: string;
  /** In seconds since 1970. */
  readonly signedAt: number;
}

/** The client machine's word that a process is one of the session's. */
export function signProcessGrant(key: SigningKey, claims: ProcessGrantClaims): Promise<string> {
  return sign(
    key,
    { alg: "EdDSA", typ: "farpool-process+jwt", jwk: key.publicKey },
    {
      session: claims.sessionGrant,
      cid: claims.connectionId,
      key: createHash("sha256").update(claims.processKey).digest("base64url"),
      uid: claims.uid,
      pid: claims.pid,
      start: claims.start,
      program: claims.program,
      iat: claims.signedAt,
      exp: claims.signedAt + PROCESS_GRANT_SECONDS,
    },
  );
}

/** What a document says, unchecked: for those who only pass it on. */
export function readClaims(grant: string): Readonly<Record<string, unknown>> {
  return decodeJwt(grant);
}

function sign(
  key: SigningKey,
  header: { readonly alg: string; readonly typ: string } & Readonly<Record<string, unknown>>,
  payload: object,
): Promise<string> {
  const text = new TextEncoder().encode(JSON.stringify(payload));
  return new CompactSign(text).setProtectedHeader({ ...header }).sign(key.privateKey);
}
