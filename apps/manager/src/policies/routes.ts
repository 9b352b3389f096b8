import type { FastifyInstance } from "fastify";
import type { Database } from "../database/connect.ts";
import { serve } from "../http/serve.ts";
import { describeService } from "./describe-service.ts";
import { explainPolicy } from "./explain.ts";
import { changeGroup, listGroups, removeGroup } from "./groups.ts";
import { readSpecification, specifyClient } from "./specification.ts";
import { listPolicies, removePolicy, setPolicy } from "./store.ts";

const OK = { ok: true } as const;

export function registerPolicyRoutes(app: FastifyInstance, db: Database): void {
  serve(app, "listPolicies", async () => ({ policies: await listPolicies(db) }));
  serve(app, "setPolicy", ({ body }) => setPolicy(db, body.scope, body.fields));
  serve(app, "removePolicy", async ({ body }) => {
    await removePolicy(db, body.scope, body.fields);
    return OK;
  });
  serve(app, "explainPolicy", ({ query }) => explainPolicy(db, query));
  serve(app, "listGroups", async () => ({ groups: await listGroups(db) }));
  serve(app, "changeGroup", ({ body }) => changeGroup(db, body));
  serve(app, "removeGroup", async ({ body }) => {
    await removeGroup(db, body.name);
    return OK;
  });
  serve(app, "readClientSpecification", async ({ params }) => ({
    specification: await readSpecification(db, params.thumbprint),
  }));
  serve(app, "describeService", ({ params, body }) => describeService(db, params.thumbprint, body));
  serve(app, "specifyClient", async ({ params, body }) => ({
    specification: await specifyClient(db, params.thumbprint, body.specification),
  }));
}
