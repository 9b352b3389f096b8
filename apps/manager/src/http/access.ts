import { createHash, randomBytes, timingSafeEqual, type X509Certificate } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { ACCESS, AUTHORITY_HEADER, FarpoolError, type AccessRole, type RouteName } from "@farpool/contract";
import { readMachineCertificate, type ShownCertificate } from "@farpool/identity/certificates";
import type { FastifyContextConfig, FastifyInstance, FastifyRequest } from "fastify";
import type { Authorities } from "../identity/authorities.ts";
import type { MachineParts } from "../identity/machines.ts";
import { recogniseMachine } from "../identity/recognise.ts";
import { recogniseUser } from "../identity/api-tokens.ts";
import { requireOwn } from "./ownership.ts";
import { THE_MANAGER, type MachinePrincipal, type Principal, type UserPrincipal } from "./principal.ts";

/** How long a connection's machine is believed without asking the database: revocation takes so long, but for servers. */
const BELIEVED_MS = 2_000;
/** For heartbeats, which say that nothing has changed: whether the server is still one is looked at where they are stored. */
const BELIEVED_FOR_HEARTBEATS_MS = 60_000;

/** What `serve` tells about a route. */
export interface RouteAccess {
  readonly name?: RouteName;
  readonly access: readonly AccessRole[];
}

declare module "fastify" {
  interface FastifyContextConfig {
    farpool?: RouteAccess;
  }
}

export interface AccessOptions extends MachineParts {
  /** Of the pool's owner on the manager's machine: whoever can read its file. */
  readonly ownerToken: string;
  /** Whether a connection came over the Unix socket: 0600, in a folder of mode 0700. */
  readonly isTrusted: (socket: Socket) => boolean;
}

/** Finds out who asks, and refuses what is not theirs to ask. */
export function requireAccess(app: FastifyInstance, options: AccessOptions): void {
  const believed = new WeakMap<Socket, { machine: MachinePrincipal; atMs: number }>();
  const owner = digest(options.ownerToken);
  app.decorateRequest("principal");

  async function machineOf(
    { raw }: FastifyRequest,
    name: RouteName | undefined,
  ): Promise<MachinePrincipal | null> {
    const { socket, method } = raw;
    const shown = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
    if (shown === undefined) return null;
    const isRenewal = name === "renewMachine";
    const isHeartbeat = name === "heartbeatAgent";
    const known = believed.get(socket);
    // What a removed server still says about itself would bring it back.
    const isFresh = isRenewal || (known?.machine.role === "server" && method !== "GET" && !isHeartbeat);
    const believedMs = isHeartbeat ? BELIEVED_FOR_HEARTBEATS_MS : BELIEVED_MS;
    if (known !== undefined && performance.now() - known.atMs < believedMs && !isFresh) return known.machine;
    const certificate = await readShown(shown);
    if (certificate === undefined)
      throw new FarpoolError(
        "FARPOOL_CERTIFICATE",
        "the certificate that this machine shows is not of this pool",
        {
          hint: "'farpool leave --forget' removes it; 'farpool join' with a string of this pool gets another",
        },
      );
    const machine = await recogniseMachine(options, certificate, isRenewal);
    if (machine.certificateExpiresAt > (await options.time()))
      believed.set(socket, { machine, atMs: performance.now() });
    return machine;
  }

  /** Another manager may have made an authority that this one does not know yet. */
  async function readShown(shown: X509Certificate): Promise<ShownCertificate | undefined> {
    const { identity } = options;
    const read = ({ trusted }: Authorities): ShownCertificate | undefined => {
      for (const { certificate } of trusted) {
        const found = readMachineCertificate(shown, certificate);
        if (found !== undefined) return found;
      }
      return undefined;
    };
    return read(identity.authorities()) ?? read(await identity.refresh());
  }

  async function principalOf(request: FastifyRequest, name: RouteName | undefined): Promise<Principal> {
    const { socket } = request.raw;
    const secret = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    const isOwner = secret !== undefined && timingSafeEqual(digest(secret), owner);
    const user = secret === undefined || isOwner ? null : await recogniseUser(options.db, secret);
    if (options.isTrusted(socket))
      return {
        ...THE_MANAGER,
        user,
        description: describe(null, user) ?? "whoever may open the manager's socket",
      };
    const peer = socket.remoteAddress ?? "unknown";
    const machine = await machineOf(request, name);
    const isAdministrator = isOwner || (user?.role === "administrator" && user.scopes.includes("administer"));
    const description =
      describe(machine, user) ?? (isOwner ? "whoever has the pool's api-token" : "somebody unknown");
    return { machine, user, isAdministrator, description, peer };
  }

  app.addHook("onRequest", async (request) => {
    const { name, access } = routeAccess(request);
    const isOpen = access.includes("anyone");
    if (isOpen && request.headers.authorization === undefined && !(request.raw.socket instanceof TLSSocket)) {
      request.principal = { ...THE_MANAGER, isAdministrator: options.isTrusted(request.raw.socket) };
      return;
    }
    // What anyone may send is not refused for what else comes with it: a revoked machine joins again.
    const asking = principalOf(request, name);
    request.principal = isOpen ? await asking.catch(() => stranger(request)) : await asking;
    if (!isOpen) requireRole(request.principal, access, { isReading: request.method === "GET" });
  });
  // A machine that does not know this one renews its certificate, and gets to know it.
  app.addHook("onSend", async (request, reply) => {
    if (request.raw.socket instanceof TLSSocket)
      reply.header(AUTHORITY_HEADER, options.identity.authorities().newest.hash);
  });
  app.addHook("preHandler", async (request) => {
    if (request.principal.isAdministrator) return;
    await requireOwn(options.db, request, routeAccess(request).name);
  });
}

function routeAccess({ routeOptions }: FastifyRequest): RouteAccess {
  // Where there is no such route there is no config either.
  return (routeOptions.config as FastifyContextConfig | undefined)?.farpool ?? { access: [] };
}

/** What a route of the contract tells the hooks. */
export function accessOf(name: RouteName): { readonly farpool: RouteAccess } {
  return { farpool: { name, access: ACCESS[name] ?? [] } };
}

function requireRole(
  { machine, user, isAdministrator, description }: Principal,
  access: readonly AccessRole[],
  { isReading }: { readonly isReading: boolean },
): void {
  if (isAdministrator) return;
  if (machine === null && user === null)
    throw new FarpoolError(
      "FARPOOL_UNAUTHENTICATED",
      "over the network the manager wants a certificate or a token, and none came",
    );
  if (machine !== null && access.includes(machine.role)) return;
  if (user !== null && access.includes("user")) {
    if (isReading || user.scopes.includes("sessions")) return;
    throw new FarpoolError(
      "FARPOOL_NOT_PERMITTED",
      `the token of ${user.name} is for ${user.scopes.join(", ")} only`,
      {
        hint: "'farpool admin tokens create --api USER --scope sessions' makes one that may have sessions",
      },
    );
  }
  const allowed = access.length === 0 ? "administrators" : `${access.join("s and ")}s`;
  throw new FarpoolError("FARPOOL_NOT_PERMITTED", `this is for ${allowed} only; ${description} is none`, {
    hint: "'farpool login' as an administrator, or ask one",
  });
}

function describe(machine: MachinePrincipal | null, user: UserPrincipal | null): string | undefined {
  const words = [
    ...(user === null ? [] : [`the ${user.role} ${user.name}`]),
    ...(machine === null ? [] : [`the ${machine.role} ${machine.name}`]),
  ];
  return words.length === 0 ? undefined : words.join(" at ");
}

function stranger(request: FastifyRequest): Principal {
  const peer = request.raw.socket.remoteAddress ?? "unknown";
  return { machine: null, user: null, isAdministrator: false, description: "somebody unknown", peer };
}

/** Equal lengths for the comparison, whatever was sent. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

export function readOrCreateToken(file: string): string {
  if (!existsSync(file))
    writeFileSync(file, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  const token = readFileSync(file, "utf8").trim();
  if (token.length < 20)
    throw new Error(`the token in ${file} has fewer than 20 characters; remove the file to get a new one`);
  return token;
}
