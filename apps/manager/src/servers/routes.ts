import type { FastifyInstance } from "fastify";
import { pollUntil, type Changes } from "../database/changes.ts";
import type { Database } from "../database/connect.ts";
import { serve } from "../http/serve.ts";
import { changeServer } from "./change.ts";
import { readDesired } from "./desired.ts";
import { listGpus, listServers } from "./read.ts";
import { createHeartbeats } from "./heartbeats.ts";
import { registerAgent } from "./register.ts";
import { acceptReport } from "./report.ts";

const OK = { ok: true } as const;

interface ServerParts {
  readonly db: Database;
  readonly changes: Changes;
  readonly graceMs: number;
}

export function registerServerRoutes(app: FastifyInstance, { db, changes, graceMs }: ServerParts): void {
  const heartbeats = createHeartbeats(db);
  serve(app, "listServers", async () => ({ servers: await listServers(db) }));
  serve(app, "listGpus", async () => ({ gpus: await listGpus(db) }));
  serve(app, "changeServer", ({ params, body }) => changeServer(db, params.serverId, body));
  serve(app, "registerAgent", async ({ body }) => {
    await registerAgent(db, body);
    return OK;
  });
  serve(app, "heartbeatAgent", async ({ params, body }) => {
    await heartbeats.accept(params.serverId, body);
    return OK;
  });
  serve(app, "watchDesired", ({ params, query }, signal) =>
    pollUntil({
      changes,
      topic: `server/${params.serverId}`,
      timeoutMs: query.timeoutMs,
      signal,
      read: () => readDesired(db, params.serverId, graceMs),
      isNew: (desired) => desired.revision > query.revision,
    }),
  );
  serve(app, "reportAgent", async ({ params, body }) => {
    await acceptReport(db, params.serverId, body);
    return OK;
  });
}
