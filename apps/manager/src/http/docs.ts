import { createHash } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { docsPage, FILTER_SCRIPT } from "./docs-page.ts";
import { openApiDocument } from "./openapi.ts";

/** Nothing of another host, and no script but the page's own. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "style-src 'unsafe-inline'",
  `script-src 'sha256-${createHash("sha256").update(FILTER_SCRIPT).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** `/openapi.json` for programs, `/docs` for people. Both are made when somebody asks first. */
export function registerDocuments(app: FastifyInstance): void {
  let document: string | undefined;
  let page: string | undefined;
  const open = { config: { farpool: { access: ["anyone"] } } } as const;
  app.get("/openapi.json", open, (_, reply) => {
    document ??= JSON.stringify(openApiDocument());
    return reply.type("application/json; charset=utf-8").send(document);
  });
  app.get("/docs", open, (_, reply) => {
    page ??= docsPage(openApiDocument());
    return reply
      .type("text/html; charset=utf-8")
      .header("content-security-policy", CONTENT_SECURITY_POLICY)
      .header("x-content-type-options", "nosniff")
      .header("referrer-policy", "no-referrer")
      .send(page);
  });
}
