import { signWorkerCertificate, WORKER_CERTIFICATE_SECONDS } from "@farpool/identity/certificates";
import type { FastifyInstance } from "fastify";
import type { Database } from "../database/connect.ts";
import { serve } from "../http/serve.ts";
import { readAudit } from "./audit.ts";
import { listClients, revokeClient } from "./clients.ts";
import { databaseTime, type PoolIdentity } from "./pool-identity.ts";
import { grantSession } from "./session-grants.ts";

interface IdentityParts {
  readonly db: Database;
  readonly identity: PoolIdentity;
}

export function registerIdentityRoutes(app: FastifyInstance, { db, identity }: IdentityParts): void {
  serve(app, "grantSession", ({ params, query }) =>
    grantSession(db, identity, { id: params.sessionId, serverId: query.serverId }),
  );
  serve(app, "certifyAgent", async ({ params, body }) => ({
    chain: await signWorkerCertificate(identity.authorities().presented.authority, {
      serverId: params.serverId,
      publicKey: body.publicKey,
      now: await databaseTime(db),
    }),
    validSeconds: WORKER_CERTIFICATE_SECONDS,
  }));
  serve(app, "listClients", async () => ({ clients: await listClients(db) }));
  serve(app, "revokeClient", ({ params, body }) => revokeClient(db, params.thumbprint, body.reason));
  serve(app, "audit", async ({ query }) => ({ entries: await readAudit(db, query.last) }));
}
