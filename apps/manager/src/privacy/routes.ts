import type { FastifyInstance } from "fastify";
import type { Database } from "../database/connect.ts";
import { serve } from "../http/serve.ts";
import { exportPerson } from "./export.ts";
import { pseudonymise } from "./pseudonymise.ts";
import { changePrivacy, readPrivacy } from "./settings.ts";

export function registerPrivacyRoutes(app: FastifyInstance, db: Database): void {
  serve(app, "privacySettings", () => readPrivacy(db));
  serve(app, "changePrivacySettings", ({ body }, _, by) => changePrivacy(db, body, by));
  serve(app, "exportPerson", ({ query }) => exportPerson(db, query.name));
  serve(app, "pseudonymisePerson", ({ body }, _, by) => pseudonymise(db, body.name, by));
}
