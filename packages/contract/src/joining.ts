import * as z from "zod";
import { FarpoolError } from "./errors.ts";
import { publicKeySchema, revocationSchema, thumbprintSchema } from "./identity.ts";
import { DEFAULT_MANAGER_PORT } from "./product.ts";
import type { RouteSpec } from "./route-spec.ts";
import { serverLabelsSchema } from "./servers.ts";
import { foreignText } from "./text.ts";

/** What a machine is in a pool. One that is both has joined twice, with two keys. */
export const machineRoles = ["server", "client"] as const;
export const machineRoleSchema = z.enum(machineRoles);
export type MachineRole = z.output<typeof machineRoleSchema>;

const MOST_LABELS = 64;

/** What an administrator calls a machine: `rack=7`, `class=a100`. A server has them beside those that it is started with. */
export const machineLabelsSchema = serverLabelsSchema.refine(
  (labels) => Object.keys(labels).length <= MOST_LABELS,
  `a machine has ${MOST_LABELS} labels at most`,
);
export type MachineLabels = z.output<typeof machineLabelsSchema>;

const machineNameSchema = foreignText(200).min(1);
const secretSchema = z.string().regex(/^[A-Za-z0-9_-]{43}$/, "a secret has 43 characters of base64url");
const instant = z.iso.datetime();
const DAY_SECONDS = 86_400;

export const joinTokenRequestSchema = z.object({
  role: machineRoleSchema,
  /** How many machines may join with it. */
  uses: z.int().min(1).max(100_000).default(1),
  validSeconds: z
    .int()
    .min(60)
    .max(365 * DAY_SECONDS)
    .default(3_600),
  /** Where machines reach the manager; null: where it listens. */
  url: z.string().max(300).nullable().default(null),
});

export const joinTokenSchema = z.object({
  id: z.uuid(),
  role: machineRoleSchema,
  uses: z.int(),
  usesLeft: z.int(),
  createdBy: z.string(),
  createdAt: instant,
  expiresAt: instant,
  revokedAt: instant.nullable(),
});
export type JoinToken = z.output<typeof joinTokenSchema>;

/** The only answer that has the secret: the database keeps its hash. */
export const createdJoinTokenSchema = joinTokenSchema.extend({ join: z.string() });

export const joinRequestSchema = z.object({
  secret: secretSchema,
  /** Null: whatever the token is for. */
  role: machineRoleSchema.nullable().default(null),
  name: machineNameSchema,
  labels: machineLabelsSchema.default({}),
  publicKey: publicKeySchema,
  /** `joinProof` signed by the key: nobody joins with another's. */
  proof: z.string().regex(/^[A-Za-z0-9_-]{86}$/, "a signature has 86 characters of base64url"),
});

/** What the key signs that joins. */
export const joinProof = (secret: string): Buffer => Buffer.from(`farpool join ${secret}`);

export const machineCertificateSchema = z.object({
  machineId: z.uuid(),
  role: machineRoleSchema,
  name: z.string(),
  poolId: z.uuid(),
  /** PEM. */
  certificate: z.string().startsWith("-----BEGIN CERTIFICATE-----"),
  /** PEM, all that the pool trusts now. */
  authority: z.string().startsWith("-----BEGIN CERTIFICATE-----"),
  validSeconds: z.int().min(1),
});
export type MachineCertificate = z.output<typeof machineCertificateSchema>;

export const machineSchema = z.object({
  id: z.uuid(),
  role: machineRoleSchema,
  name: z.string(),
  labels: machineLabelsSchema,
  thumbprint: thumbprintSchema,
  joinedAt: instant,
  lastSeenAt: instant,
  /** How many certificates it has had. */
  certificates: z.int(),
  certificateExpiresAt: instant,
  revokedAt: instant.nullable(),
  revokedReason: z.string().nullable(),
});
export type Machine = z.output<typeof machineSchema>;

/** The pool's certificate authorities, until when they are good, and how far a newer one is with taking over. */
export const authorityStateSchema = z.object({
  authorities: z.array(
    z.object({
      /** As join strings name it. */
      sha256: z.string(),
      createdAt: instant,
      expiresAt: instant,
      /** It signs what managers and workers show; it is trusted and will do so; it did so, and is trusted still. */
      role: z.enum(["presented", "spreading", "retiring"]),
    }),
  ),
  rotation: z
    .object({
      phase: z.enum(["spreading", "retiring"]),
      since: instant,
      /** Machines that trust the newest one, and the names of some that do not. */
      machines: z.object({ total: z.int(), renewed: z.int(), waiting: z.array(z.string()) }),
      /** Living sessions from before it was made: they do not trust it. */
      olderSessions: z.int(),
      /** From when on the old one is trusted no longer; null: not before the newer takes over. */
      dropsAt: instant.nullable(),
    })
    .nullable(),
  /** Of the manager that answers. */
  managerCertificateExpiresAt: instant,
});
export type AuthorityState = z.output<typeof authorityStateSchema>;

const ok = z.object({ ok: z.literal(true) });

export const JOINING_ROUTES = {
  createJoinToken: {
    method: "POST",
    path: "/v1/join-tokens",
    summary: "A string by which machines join the pool; it is told once",
    body: joinTokenRequestSchema,
    response: createdJoinTokenSchema,
  },
  listJoinTokens: {
    method: "GET",
    path: "/v1/join-tokens",
    summary: "Join tokens that were made, without their secrets",
    response: z.object({ tokens: z.array(joinTokenSchema) }),
  },
  revokeJoinToken: {
    method: "POST",
    path: "/v1/join-tokens/{tokenId}/revoke",
    summary: "Nobody joins with this token any more; who has joined stays",
    params: z.object({ tokenId: z.uuid() }),
    response: joinTokenSchema,
  },
  authority: {
    method: "GET",
    path: "/v1/authority",
    summary:
      "Certificates of the authorities that the pool trusts, PEM; sha256 is of the one that managers show",
    response: z.object({ authority: z.string(), sha256: z.string() }),
  },
  authorityState: {
    method: "GET",
    path: "/v1/authority/state",
    summary: "Until when the pool's authorities are good, and how far a newer one is with taking over",
    response: authorityStateSchema,
  },
  rotateAuthority: {
    method: "POST",
    path: "/v1/authority/rotate",
    summary: "Make a new authority, which machines get to know from now on",
    response: authorityStateSchema,
  },
  finishRotation: {
    method: "POST",
    path: "/v1/authority/finish",
    summary: "Let the new authority take over; a day later the old one is trusted no longer",
    body: z.object({ isForced: z.boolean().default(false) }),
    response: authorityStateSchema,
  },
  joinPool: {
    method: "POST",
    path: "/v1/join",
    summary: "A machine joins with a token and gets a certificate for its key",
    body: joinRequestSchema,
    response: machineCertificateSchema,
  },
  renewMachine: {
    method: "POST",
    path: "/v1/machines/renewal",
    summary: "A machine renews the certificate that its connection shows, also an expired one",
    response: machineCertificateSchema,
  },
  leavePool: {
    method: "POST",
    path: "/v1/machines/leave",
    summary: "A machine leaves: its certificate is revoked, its sessions end",
    response: ok,
  },
  listMachines: {
    method: "GET",
    path: "/v1/machines",
    summary: "Machines that have joined, the revoked ones too",
    response: z.object({ machines: z.array(machineSchema) }),
  },
  revokeMachine: {
    method: "POST",
    path: "/v1/machines/{machineId}/revoke",
    summary: "Trust a machine no longer: its sessions end, it gets no certificate again",
    params: z.object({ machineId: z.uuid() }),
    body: revocationSchema,
    response: machineSchema,
  },
} as const satisfies Record<string, RouteSpec>;

/** A place of a manager, which certificate is its authority's, and the word that opens the door. */
export interface Invitation {
  readonly host: string;
  readonly port: number;
  /** SHA-256 of the authority's certificate (DER), base64url. */
  readonly authorityHash: string;
  readonly secret: string;
}

/** An invitation for a machine says what it is to be. */
export interface JoinInvitation extends Invitation {
  readonly role: MachineRole;
}

const bracketed = (host: string): string => (host.includes(":") ? `[${host}]` : host);

/** One word without characters that a shell would take for its own. */
export function formatJoinString({ host, port, role, authorityHash, secret }: JoinInvitation): string {
  return `farpool://${bracketed(host)}:${port}/${role}/${authorityHash}/${secret}`;
}

/** The address of the console; a browser keeps what follows # to itself. */
export function formatLoginLink({ host, port, authorityHash, secret }: Invitation): string {
  return `https://${bracketed(host)}:${port}/login#${authorityHash}.${secret}`;
}

export function parseJoinString(text: string): JoinInvitation {
  const match = /^farpool:\/\/(.+?)\/(server|client)\/([\w-]{43})\/([\w-]{43})\/?$/.exec(text.trim());
  const place = parsePlace(`https://${match?.[1] ?? ""}`);
  const [, , role, authorityHash, secret] = match ?? [];
  const isWhole = authorityHash !== undefined && secret !== undefined && place !== undefined;
  if (isWhole && (role === "server" || role === "client")) return { ...place, role, authorityHash, secret };
  throw new FarpoolError("FARPOOL_USAGE", "this is not a join string, or not all of one", {
    hint: "it looks like farpool://HOST:7443/client/…/…; 'farpool admin tokens create --client' on the manager's machine prints one",
  });
}

/** Undefined where the text is something else. */
export function parseLoginLink(text: string): Invitation | undefined {
  const match = /^(https:\/\/[^/]+)\/login#([\w-]{43})\.([\w-]{43})$/.exec(text.trim());
  const place = parsePlace(match?.[1] ?? "");
  if (match?.[2] === undefined || match[3] === undefined || place === undefined) return undefined;
  return { ...place, authorityHash: match[2], secret: match[3] };
}

/** Host and port of `https://HOST[:PORT]`, and nothing behind them. */
export function parsePlace(text: string): { readonly host: string; readonly port: number } | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isBare = url !== undefined && url.pathname === "/" && url.search === "" && url.hash === "";
  if (url === undefined || !isBare || url.protocol !== "https:" || url.hostname === "" || url.username !== "")
    return undefined;
  // For https the parser takes a port of 443 away.
  const isDefault = url.port === "" && !/:443\/?$/.test(text);
  const port = isDefault ? DEFAULT_MANAGER_PORT : Number(url.port === "" ? 443 : url.port);
  return { host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port };
}

/** `rack=7,class=a100`. */
export function parseLabels(text: string): MachineLabels {
  const pairs = text === "" ? [] : text.split(",").map((part) => /^([^=]+)=(.*)$/.exec(part)?.slice(1, 3));
  const labels = machineLabelsSchema.safeParse(Object.fromEntries(pairs.map((pair) => pair ?? ["", ""])));
  if (labels.success) return labels.data;
  throw new FarpoolError("FARPOOL_USAGE", `'${text}' is no list of labels`, {
    hint: "labels look like rack=7,class=a100",
  });
}
