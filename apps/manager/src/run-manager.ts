import { join } from "node:path";
import type { SchedulingSettings } from "@farpool/domain";
import { startEmbeddedPostgres, type EmbeddedPostgres } from "@farpool/embedded-postgres";
import { FarpoolError } from "@farpool/contract";
import { pino } from "pino";
import * as z from "zod";
import { startManager } from "./manager.ts";

/** How the manager process is started: one JSON argument, made by `farpool up`. */
export const managerProcessSchema = z.strictObject({
  /** The embedded PostgreSQL below the state folder, or that of FARPOOL_DATABASE: others may read arguments, and it may hold a password. */
  database: z.enum(["embedded", "external"]),
  stateFolder: z.string(),
  logFolder: z.string(),
  socketPath: z.string(),
  tokenFile: z.string(),
  tcp: z.object({ host: z.string(), port: z.int() }).nullable(),
  /** Where other machines reach it, when that is not `tcp`. */
  publicPlace: z.object({ host: z.string(), port: z.int() }).nullable().default(null),
  graceMs: z.int().min(0),
  /** Where Prometheus may read the metrics; null: nowhere. */
  metrics: z.object({ host: z.string(), port: z.int() }).nullable().default(null),
  /** Absent: as it was before, in the beginning the defaults. */
  scheduling: z
    .object({ halfLifeMs: z.int().min(1).optional(), reserveAfterMs: z.int().min(0).optional() })
    .optional(),
});
export type ManagerProcess = z.input<typeof managerProcessSchema>;

/** The manager as a process of its own: runs until SIGTERM, or until its database is gone. */
export async function runManager(options: z.output<typeof managerProcessSchema>): Promise<number> {
  const logger = pino({ base: { part: "manager" }, level: process.env["FARPOOL_LOG_LEVEL"] ?? "info" });
  const terminated = new Promise<void>((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
  let postgres: EmbeddedPostgres | undefined;
  try {
    postgres =
      options.database === "embedded"
        ? await startEmbeddedPostgres({
            folder: join(options.stateFolder, "postgres"),
            logFile: join(options.logFolder, "postgres.log"),
          })
        : undefined;
    const manager = await startManager({
      connection:
        postgres === undefined ? { url: databaseUrl() } : { ...postgres.connection, database: "postgres" },
      databaseKind: postgres === undefined ? "external" : "embedded",
      socketPath: options.socketPath,
      tcp: options.tcp,
      publicPlace: options.publicPlace ?? undefined,
      tokenFile: options.tokenFile,
      graceMs: options.graceMs,
      metrics: options.metrics,
      scheduling: schedulingOf(options.scheduling),
      logger,
    });
    const databaseGone = postgres?.exited.then(() => true) ?? new Promise<never>(() => undefined);
    const failed = await Promise.race([terminated.then(() => false), databaseGone]);
    if (failed) {
      logger.fatal("the embedded PostgreSQL has ended");
      return 69;
    }
    await manager.stop();
    return 0;
  } catch (error) {
    logger.fatal({ err: error }, "the manager cannot start");
    return 69;
  } finally {
    await postgres?.stop();
  }
}

function schedulingOf(given: ManagerProcess["scheduling"]): Partial<SchedulingSettings> {
  return {
    ...(given?.halfLifeMs !== undefined && { halfLifeMs: given.halfLifeMs }),
    ...(given?.reserveAfterMs !== undefined && { reserveAfterMs: given.reserveAfterMs }),
  };
}

function databaseUrl(): string {
  const url = process.env["FARPOOL_DATABASE"];
  if (url !== undefined && url !== "") return url;
  throw new FarpoolError("FARPOOL_USAGE", "FARPOOL_DATABASE names no database", {
    hint: "FARPOOL_DATABASE=postgres://USER@HOST/DATABASE",
  });
}
