import { sql } from "kysely";
import { FarpoolError, VERSION } from "@farpool/contract";
import { serveMetrics } from "@farpool/metrics";
import type { SchedulingSettings } from "@farpool/domain";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import { listenForChanges } from "./database/changes.ts";
import { connect, type ConnectionConfig, type Database } from "./database/connect.ts";
import { migrate } from "./database/migrate.ts";
import { readOrCreateToken, requireAccess } from "./http/access.ts";
import { createApp } from "./http/app.ts";
import { createManagerMetrics } from "./http/metrics.ts";
import { createListeners } from "./http/listen.ts";
import { serve } from "./http/serve.ts";
import { startHousekeeping } from "./housekeeping.ts";
import { countPool } from "./servers/read.ts";
import { registerServerRoutes } from "./servers/routes.ts";
import type { Place } from "./identity/join-tokens.ts";
import { registerJoiningRoutes } from "./identity/joining-routes.ts";
import { keepManagerCertificate } from "./identity/manager-certificate.ts";
import { registerPeopleRoutes } from "./identity/people-routes.ts";
import { ensureFirstAdministrator } from "./identity/users.ts";
import { databaseTime, openPoolIdentity } from "./identity/pool-identity.ts";
import { keepDropping } from "./identity/rotation.ts";
import { registerIdentityRoutes } from "./identity/routes.ts";
import { registerPolicyRoutes } from "./policies/routes.ts";
import { registerPrivacyRoutes } from "./privacy/routes.ts";
import { changeScheduling } from "./placement/fair-share.ts";
import { createHolds } from "./sessions/hold.ts";
import { grantFreshPeriod } from "./sessions/lease.ts";
import { startUsageHousekeeping } from "./usage/housekeeping.ts";
import { registerUsageRoutes } from "./usage/routes.ts";
import { registerSessionRoutes } from "./sessions/routes.ts";

/** How long requests that are under way may take when a manager stops: what supervises it waits longer. */
const DRAIN_MS = 5_000;

export interface ManagerOptions {
  readonly connection: ConnectionConfig;
  readonly databaseKind: "embedded" | "external";
  readonly socketPath: string;
  readonly tcp: { readonly host: string; readonly port: number } | null;
  /** Where other machines reach it, when that is not where it listens. */
  readonly publicPlace?: Place | undefined;
  /** For certificates of machines: tests let days pass. The database's clock otherwise. */
  readonly time?: () => Promise<Date>;
  readonly tokenFile: string;
  /** How long a client process may be without a connection, in every session. */
  readonly graceMs: number;
  /** Changes how the pool is scheduled; what is left out stays as it was. */
  readonly scheduling?: Partial<SchedulingSettings> | undefined;
  readonly logger: FastifyBaseLogger;
  /** Where Prometheus may read; left out: nowhere. */
  readonly metrics?: { readonly host: string; readonly port: number } | null;
}

export interface Manager {
  stop(): Promise<void>;
}

/** Starts a manager on a database that is already there. All its state is in that database. */
export async function startManager(options: ManagerOptions): Promise<Manager> {
  const { connection, logger } = options;
  const report = (error: unknown): void => logger.error({ err: error }, "background work failed");
  const db = connect(connection, report);
  await migrate(db);
  const identity = await openPoolIdentity(db, report);
  await changeScheduling(db, options.scheduling ?? {});
  await ensureFirstAdministrator(db);
  await grantFreshPeriod(db);
  const changes = await listenForChanges(connection, report);
  const holds = createHolds(db, changes, report);
  const app = createApp(logger);
  const certificate = await keepManagerCertificate({
    authority: () => identity.authorities().presented.authority,
    hosts: [options.tcp, options.publicPlace].flatMap((place) => place?.host ?? []),
    time: () => databaseTime(db),
    onError: report,
  });
  const listeners = createListeners({
    socketPath: options.socketPath,
    tcp:
      options.tcp === null
        ? null
        : { ...options.tcp, certificate: certificate.first, authority: () => identity.authorities().bundle },
    handler: (request, response) => app.routing(request, response),
  });
  certificate.onRenewed((renewed) => listeners.present(renewed));
  identity.onChanged(() => certificate.look());
  const metrics = await startMetrics(app, db, options.metrics ?? null);
  const machines = { db, identity, time: options.time ?? (() => databaseTime(db)) };
  const door = {
    place: options.publicPlace ?? options.tcp,
    get authorityHash() {
      return identity.authorities().presented.hash;
    },
  };
  const state = { isStopping: false };
  const ownerToken = readOrCreateToken(options.tokenFile);
  requireAccess(app, { ...machines, ownerToken, isTrusted: listeners.isTrusted });
  app.addHook("onSend", async (_, reply) => {
    // Who asks again asks another manager, or waits for this one's successor.
    if (state.isStopping) reply.header("connection", "close");
  });
  registerPoolRoutes(app, { db, databaseKind: options.databaseKind, state });
  registerSessionRoutes(app, { db, changes, holds, identity, graceMs: options.graceMs });
  registerServerRoutes(app, { db, changes, graceMs: options.graceMs });
  registerIdentityRoutes(app, { db, identity });
  registerPolicyRoutes(app, db);
  registerUsageRoutes(app, db);
  registerPrivacyRoutes(app, db);
  registerJoiningRoutes(app, { ...machines, door, certificateExpiresAt: certificate.expiresAt });
  registerPeopleRoutes(app, { db, door });
  await app.ready();
  await listeners.open();
  const housekeeping = startHousekeeping(db, holds, report);
  const dropping = keepDropping(machines, report);
  const usage = startUsageHousekeeping(db, report);
  logger.info({ socket: options.socketPath, tcp: options.tcp }, "manager listens");
  return {
    async stop() {
      state.isStopping = true;
      certificate.stop();
      identity.stop();
      dropping.stop();
      // Long polls and streams end now; what else is under way is finished.
      holds.close();
      changes.endWaits();
      await listeners.close(DRAIN_MS);
      await housekeeping.stop();
      await usage.stop();
      await changes.close();
      await app.close();
      await metrics?.close();
      await db.destroy();
      logger.info("manager stopped");
    },
  };
}

async function startMetrics(
  app: FastifyInstance,
  db: Database,
  where: { readonly host: string; readonly port: number } | null,
): Promise<{ close(): Promise<void> } | undefined> {
  if (where === null) return undefined;
  const metrics = createManagerMetrics(db);
  metrics.observe(app);
  const server = await serveMetrics(metrics, where);
  return {
    async close() {
      await server.close();
      metrics.close();
    },
  };
}

interface PoolParts {
  readonly db: Database;
  readonly databaseKind: "embedded" | "external";
  readonly state: { readonly isStopping: boolean };
}

function registerPoolRoutes(app: FastifyInstance, { db, databaseKind, state }: PoolParts): void {
  const startedAt = new Date().toISOString();
  serve(app, "health", () => Promise.resolve({ ok: true as const }));
  serve(app, "ready", async () => {
    if (state.isStopping) throw new FarpoolError("FARPOOL_UNAVAILABLE", "this manager is stopping");
    await sql`select 1 from sessions limit 1`.execute(db);
    return { ok: true as const };
  });
  serve(app, "status", async () => ({
    version: VERSION,
    pid: process.pid,
    startedAt,
    database: databaseKind,
    ...(await countPool(db)),
  }));
}
