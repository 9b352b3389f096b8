import { FarpoolError, sessionIdSchema, type RouteName } from "@farpool/contract";
import { thumbprintOf } from "@farpool/identity";
import type { FastifyRequest } from "fastify";
import type { Database } from "../database/connect.ts";

/** Machines speak for themselves, and people for their own sessions. */
export async function requireOwn(
  db: Database,
  request: FastifyRequest,
  name: RouteName | undefined,
): Promise<void> {
  const { machine } = request.principal;
  const params = request.params as { serverId?: string; sessionId?: string; thumbprint?: string };
  const body = request.body as { serverId?: string; clientKey?: Parameters<typeof thumbprintOf>[0] } | null;
  const serverId = params.serverId ?? (name === "registerAgent" ? body?.serverId : undefined);
  if (serverId !== undefined && serverId !== machine?.id)
    throw notOwn(`the server ${serverId}`, request.principal.description);
  if (name === "describeService" && params.thumbprint !== machine?.thumbprint)
    throw notOwn("what the service of that client may have", request.principal.description);
  if (name === "createSession") {
    if (machine?.role !== "client")
      throw new FarpoolError(
        "FARPOOL_NOT_PERMITTED",
        "a session always has a client, and this machine is none",
        {
          hint: "'farpool join STRING' makes it one; an administrator gets the string by 'farpool admin tokens create --client'",
        },
      );
    if (body?.clientKey === undefined || thumbprintOf(body.clientKey) !== machine.thumbprint)
      throw notOwn("the key that the session is asked for", request.principal.description);
  }
  const sessionId = sessionIdSchema.safeParse(params.sessionId);
  if (sessionId.success) await requireOwnSession(db, request, sessionId.data);
}

async function requireOwnSession(
  db: Database,
  { principal }: FastifyRequest,
  sessionId: ReturnType<typeof sessionIdSchema.parse>,
): Promise<void> {
  const session = await db
    .selectFrom("sessions")
    .select(["client_key", "user_id"])
    .where("id", "=", sessionId)
    .executeTakeFirst();
  // The route itself says that there is none.
  if (session === undefined) return;
  const isClients = principal.machine !== null && session.client_key === principal.machine.thumbprint;
  const isUsers = principal.user !== null && session.user_id === principal.user.id;
  if (!isClients && !isUsers) throw notOwn(`the session ${sessionId}`, principal.description);
}

function notOwn(what: string, who: string): FarpoolError {
  return new FarpoolError("FARPOOL_NOT_PERMITTED", `${what} is not ${who}'s`, {
    hint: "an administrator may do it",
  });
}
