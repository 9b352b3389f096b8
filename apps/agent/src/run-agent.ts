import { randomUUID } from "node:crypto";
import { dirname, join } from "node:path";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createClient, openMembership, type ManagerAddress } from "@farpool/client-api";
import { serveMetrics } from "@farpool/metrics";
import { FarpoolError, serverIdSchema, serverLabelsSchema, type ServerId } from "@farpool/contract";
import { pino, type Logger } from "pino";
import * as z from "zod";
import { createAgentMetrics } from "./metrics.ts";
import { runAgentLoops } from "./agent.ts";

/** How the agent process is started: one JSON argument, made by `farpool up`. */
export const agentProcessSchema = z.strictObject({
  /** The manager on this machine, or what `farpool join` left about another one. */
  manager: z.discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("local"),
      socketPath: z.string(),
      serverIdFile: z.string(),
      serverName: z.string(),
    }),
    z.strictObject({ kind: z.literal("joined"), membership: z.string(), key: z.string() }),
  ]),
  dataHost: z.string(),
  advertise: z.array(z.strictObject({ host: z.string(), port: z.int().min(1).max(65_535) })),
  acceptorSocket: z.string(),
  identityFile: z.string(),
  transport: z.enum(["tls", "tcp"]),
  worker: z.string(),
  driver: z.string(),
  gpuIndexes: z.array(z.int().min(0)).nullable(),
  /** Where Prometheus may read the metrics; null: nowhere. */
  metrics: z.object({ host: z.string(), port: z.int() }).nullable().default(null),
  labels: serverLabelsSchema.default({}),
});
export type AgentProcess = z.input<typeof agentProcessSchema>;

/** The agent as a process of its own: runs until SIGTERM. */
export async function runAgent(options: z.output<typeof agentProcessSchema>): Promise<number> {
  const logger = pino({ base: { part: "agent" }, level: process.env["FARPOOL_LOG_LEVEL"] ?? "info" });
  const stopping = new AbortController();
  process.once("SIGTERM", () => stopping.abort());
  process.once("SIGINT", () => stopping.abort());
  const { address, serverId, serverName } = await openManager(options.manager, stopping.signal, logger);
  const client = createClient(address);
  const metrics = options.metrics === null ? undefined : createAgentMetrics();
  const server =
    metrics === undefined || options.metrics === null
      ? undefined
      : await serveMetrics(metrics, options.metrics);
  await runAgentLoops(
    {
      client,
      serverId,
      serverName,
      dataHost: options.dataHost,
      advertise: options.advertise,
      acceptorSocket: options.acceptorSocket,
      identityFile: options.identityFile,
      endsFile: join(dirname(options.identityFile), "session-ends.json"),
      transport: options.transport,
      inventory: { worker: options.worker, driver: options.driver, indexes: options.gpuIndexes },
      labels: options.labels,
      logger,
      ...(metrics === undefined ? {} : { metrics }),
    },
    stopping.signal,
  );
  client.close();
  await server?.close();
  logger.info("agent stopped");
  return 0;
}

interface OpenManager {
  readonly address: ManagerAddress;
  readonly serverId: ServerId;
  readonly serverName: string;
}

async function openManager(
  manager: AgentProcess["manager"],
  signal: AbortSignal,
  logger: Logger,
): Promise<OpenManager> {
  if (manager.kind === "local") {
    const { socketPath: path, serverIdFile, serverName } = manager;
    return { address: { kind: "unix", path }, serverId: readOrCreateServerId(serverIdFile), serverName };
  }
  const opened = openMembership(manager);
  if (opened === undefined)
    throw new FarpoolError(
      "FARPOOL_NOT_PERMITTED",
      `this machine is no server of a pool: there is no ${manager.membership}`,
      {
        hint: "'farpool join STRING --server' makes it one",
      },
    );
  await opened.renewIfDue();
  opened.keep(signal, (error) => logger.warn({ err: error }, "the machine's certificate is not renewed"));
  const { machineId, name } = opened.membership;
  return { address: opened.address(), serverId: serverIdSchema.parse(machineId), serverName: name };
}

/** A server keeps its identity over restarts and upgrades. */
function readOrCreateServerId(file: string): ServerId {
  if (!existsSync(file)) writeFileSync(file, `${randomUUID()}\n`, { mode: 0o600, flag: "wx" });
  return serverIdSchema.parse(readFileSync(file, "utf8").trim());
}
