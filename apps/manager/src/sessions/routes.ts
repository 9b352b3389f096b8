import {
  FarpoolError,
  HOLD_PATH,
  sessionIdSchema,
  type ServerConnection,
  type SessionConnection,
  type SessionId,
} from "@farpool/contract";
import type { FastifyInstance } from "fastify";
import { pollUntil, type Changes } from "../database/changes.ts";
import type { Database } from "../database/connect.ts";
import { serve, toFastifyPath } from "../http/serve.ts";
import { readQueueView } from "../placement/view.ts";
import type { PoolIdentity } from "../identity/pool-identity.ts";
import { grantSession } from "../identity/session-grants.ts";
import { createSession } from "./create.ts";
import { endSession } from "./end.ts";
import { extendSession } from "./extend.ts";
import { readSessionGpus } from "./gpus.ts";
import type { Holds } from "./hold.ts";
import { renewLease } from "./lease.ts";
import { messageSession } from "./message.ts";
import { serversOfSession, type Place } from "./places.ts";
import { releaseSession } from "./release.ts";
import { listSessions, readSession, readSessionDetail } from "./read.ts";

interface SessionParts {
  readonly db: Database;
  readonly changes: Changes;
  readonly holds: Holds;
  readonly identity: PoolIdentity;
  readonly graceMs: number;
}

export function registerSessionRoutes(
  app: FastifyInstance,
  { db, changes, holds, identity, graceMs }: SessionParts,
): void {
  serve(app, "createSession", ({ body }, _, principal) => createSession(db, body, principal));
  serve(app, "listSessions", async ({ query }) => ({ sessions: await listSessions(db, query.ended) }));
  serve(app, "listQueue", () => readQueueView(db));
  serve(app, "showSession", ({ params }) => readSessionDetail(db, params.sessionId));
  serve(app, "watchSession", ({ params, query }, signal) =>
    pollUntil({
      changes,
      topic: `session/${params.sessionId}`,
      timeoutMs: query.timeoutMs,
      signal,
      read: () => readSession(db, params.sessionId),
      isNew: (session) => session.revision > query.revision,
    }),
  );
  serve(app, "connectSession", ({ params }) => readConnection({ db, identity, graceMs }, params.sessionId));
  serve(app, "sessionGpus", ({ params }) => readSessionGpus(db, params.sessionId));
  serve(app, "heartbeatSession", async ({ params }) => ({ state: await renewLease(db, params.sessionId) }));
  serve(app, "endSession", ({ params, body }) => endSession(db, params.sessionId, body));

  serve(app, "extendSession", ({ params, body }) => extendSession(db, params.sessionId, body.byMs));
  serve(app, "messageSession", ({ params, body }) => messageSession(db, params.sessionId, body.text));
  serve(app, "releaseSession", ({ params }) => releaseSession(db, params.sessionId));

  app.get<{ Params: { sessionId: string }; Querystring: { after?: string } }>(
    toFastifyPath(HOLD_PATH),
    {
      config: { farpool: { access: ["client", "user"] } },
      schema: { summary: "Lines of JSON, one per change, until the session ends; its end ends the session" },
    },
    async (request, reply) => {
      const id = sessionIdSchema.safeParse(request.params.sessionId);
      if (!id.success)
        throw new FarpoolError("FARPOOL_BAD_REQUEST", `'${request.params.sessionId}' is not a session id`);
      await readSession(db, id.data);
      reply.hijack();
      reply.raw.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
      reply.raw.flushHeaders();
      const after = /^\d{1,15}$/.exec(request.query.after ?? "")?.[0];
      await holds.serve(id.data, reply.raw, after === undefined ? null : Number(after));
    },
  );
}

async function readConnection(
  { db, identity, graceMs }: Pick<SessionParts, "db" | "identity" | "graceMs">,
  id: SessionId,
): Promise<SessionConnection> {
  const row = await db
    .selectFrom("sessions")
    .select(["state", "secret", serversOfSession.as("servers")])
    .where("id", "=", id)
    .executeTakeFirst();
  if (row === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no session ${id}`);
  if (row.state === "ended") throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${id} has ended`);
  const [first, ...further] = row.servers;
  if (row.state !== "active" || first === undefined) {
    throw new FarpoolError(
      "FARPOOL_CONFLICT",
      `the session ${id} is ${row.state}, it has no GPUs to connect to yet`,
    );
  }
  const connect = async ({ id: serverId, endpoints }: Place): Promise<ServerConnection> => ({
    ...{ serverId, endpoints: [...endpoints] },
    grant: await grantSession(db, identity, { id, serverId }),
  });
  return {
    ...(await connect(first)),
    secret: row.secret,
    graceSeconds: graceMs / 1_000,
    authorities: [...identity.authorities().ders],
    furtherServers: await Promise.all(further.map(connect)),
  };
}
