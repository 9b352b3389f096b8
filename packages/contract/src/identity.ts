import * as z from "zod";
import { foreignText } from "./text.ts";

/** 32 bytes as base64url without padding; the last character has two spare bits, which are zero. */
const bytes32 = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

/**
 * A public key of Ed25519, as RFC 8037 writes it. There is one text for each key, so it has one thumbprint: who
 * was revoked does not come back with the same key spelt differently.
 */
export const publicKeySchema = z.object({
  kty: z.literal("OKP"),
  crv: z.literal("Ed25519"),
  x: z.string().regex(bytes32, "the 32 bytes of a key are 43 characters of base64url"),
});
export type PublicKey = z.output<typeof publicKeySchema>;

/** The name of a key: RFC 7638, SHA-256, base64url. */
export const thumbprintSchema = z
  .string()
  .regex(bytes32, "a thumbprint has 43 characters of base64url")
  .brand<"Thumbprint">();
export type Thumbprint = z.output<typeof thumbprintSchema>;

/** A key with which the manager signs session grants, as those who check them need it. */
export const managerKeySchema = z.object({ kid: thumbprintSchema, x: publicKeySchema.shape.x });
export type ManagerKey = z.output<typeof managerKeySchema>;

/** What a server checks grants against. */
export const trustSchema = z.object({
  managerKeys: z.array(managerKeySchema).min(1).max(16),
  /** Client machines' keys that are trusted no longer, for as long as grants for them may be about. */
  revoked: z.array(thumbprintSchema).max(100_000),
});
export type Trust = z.output<typeof trustSchema>;

/** A compact JWS. */
export const grantTextSchema = z.string().regex(/^[\w-]+\.[\w-]+\.[\w-]+$/, "a grant has three parts");

/** A session grant and how long it is good for: clocks of different machines need not agree. */
export const sessionGrantSchema = z.object({ grant: grantTextSchema, validSeconds: z.int().min(1) });
export type SessionGrant = z.output<typeof sessionGrantSchema>;

const base64 = z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/, "this is no base64");

/** What an agent asks a worker's certificate for: the public key of a pair that never leaves its server. */
export const certificateRequestSchema = z.object({
  /** SPKI, DER, base64: ECDSA P-256. */
  publicKey: base64.max(1_000),
});

export const certificateSchema = z.object({
  /** PEM, the leaf first. */
  chain: z.string().startsWith("-----BEGIN CERTIFICATE-----"),
  validSeconds: z.int().min(1),
});
export type Certificate = z.output<typeof certificateSchema>;

/** Certificates of the pool's own authorities: DER, base64. */
export const authoritiesSchema = z.array(base64).min(1).max(8);

const instant = z.iso.datetime();

/** A client machine, or one person's part of it, by its key. */
export const clientSchema = z.object({
  thumbprint: thumbprintSchema,
  name: z.string(),
  user: z.string(),
  firstSeenAt: instant,
  lastSeenAt: instant,
  revokedAt: instant.nullable(),
  revokedReason: z.string().nullable(),
  /** Sessions that live or wait. */
  sessions: z.int(),
});
export type Client = z.output<typeof clientSchema>;

export const revocationSchema = z.object({
  reason: foreignText(500).nullable().default(null),
});

export const auditKinds = [
  "client-seen",
  "client-revoked",
  "policy-changed",
  "policy-refused",
  "session-extended",
  "session-started",
  "session-ended",
  "refused",
  "machine-joined",
  "machine-left",
  "machine-revoked",
  "machine-cloned",
  "join-refused",
  "sign-in",
  "sign-in-refused",
  "user-changed",
  "token-changed",
  "authority-changed",
] as const;

/** Who did what, or was not allowed to. */
export const auditEntrySchema = z.object({
  at: instant,
  kind: z.enum(auditKinds),
  /** As text: what was refused may name anything. */
  sessionId: z.string().nullable(),
  connectionId: z.string().nullable(),
  client: thumbprintSchema.nullable(),
  clientName: z.string().nullable(),
  user: z.string().nullable(),
  serverName: z.string().nullable(),
  /** Where it came from, as the server saw it. */
  peer: z.string().nullable(),
  reason: z.string(),
});
export type AuditEntry = z.output<typeof auditEntrySchema>;
