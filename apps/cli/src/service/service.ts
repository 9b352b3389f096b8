import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient, type ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  formatDuration,
  formatRequest,
  VERSION,
  WHOLE,
  parseFilter,
  type ClientSpecification,
  type ServiceDescription,
  type Size,
} from "@farpool/contract";
import type { SigningKey } from "@farpool/identity";
import {
  clientKeyFile,
  poolFolders,
  servicePlaces,
  type ServicePlaces,
  type ServiceScope,
} from "@farpool/layout";
import { sdNotify } from "@farpool/os";
import { reachPool } from "../core/pool-client.ts";
import { receive } from "../run/broker.ts";
import { readOrCreateClientKey } from "../run/client-key.ts";
import { watchClients } from "../run/clients.ts";
import { describeGpus, describeServers } from "../run/report.ts";
import type { SessionWish } from "../run/session.ts";
import { createAnswers } from "./answers.ts";
import { readConfiguration, type ServiceConfiguration } from "./configuration.ts";
import { openHeld, type HeldSession } from "./held-session.ts";
import { createHolding } from "./holding.ts";
import { asNamed, chooseIdentity, identityFilters } from "./identity.ts";
import { serviceSocket } from "./listening.ts";
import { openLog } from "./log.ts";
import { createMembers } from "./members.ts";
import { messageOf } from "./not-held.ts";
import { refuseWaiting } from "./refuse-waiting.ts";
import { openState, type GpuIdentity } from "./state-file.ts";
import { endingJob, stopSocket } from "./systemd.ts";
import { createTaking, type Taking } from "./taking.ts";

/** On demand, unless somebody says otherwise. */
const IDLE_TIMEOUT_MS = 30 * 60_000;
/** How long what the manager says of this client is believed. */
const BELIEVED_MS = 30_000;
const SOON_MS = 1_000;

interface Given {
  readonly configuration: ServiceConfiguration;
  readonly clientKey: SigningKey;
}

async function readOrRefuse(places: ServicePlaces): Promise<Given> {
  try {
    return {
      configuration: readConfiguration(places.configuration),
      clientKey: readOrCreateClientKey(clientKeyFile(poolFolders())),
    };
  } catch (error) {
    await refuseWaiting(error);
    throw error;
  }
}

/** The client service: answers the programs of a machine, or of one person, and holds their session. Until a signal. */
export async function clientService(scope: ServiceScope): Promise<number> {
  const places = servicePlaces(scope);
  const { configuration, clientKey } = await readOrRefuse(places);
  const log = openLog(places.log);
  const socket = serviceSocket(places);
  const state = openState(places.state, (sentence) => log.write(sentence));

  let pool: ReturnType<typeof openPool> | undefined;
  async function manager(): Promise<ManagerClient> {
    // The machine may join the pool, or leave it for another, while the service runs.
    pool ??= openPool();
    return (await pool).client;
  }
  function reopenPool(): void {
    pool?.then(
      ({ close }) => close(),
      () => undefined,
    );
    pool = undefined;
  }

  let described: { readonly at: number; readonly description: ServiceDescription } | undefined;
  async function description(): Promise<ServiceDescription> {
    if (described !== undefined && performance.now() - described.at < BELIEVED_MS)
      return described.description;
    try {
      const answer = await describe(await manager());
      // A server that has just come is not to be overlooked.
      const at = answer.models.length > 0 ? performance.now() : Number.NEGATIVE_INFINITY;
      described = { at, description: answer };
      return answer;
    } catch (error) {
      // Programs that only look must find another pool, too; a session's own way to its pool is left alone.
      if (holding.state === "idle" || holding.state === "refused") reopenPool();
      throw error;
    }
  }
  function describe(client: ManagerClient): Promise<ServiceDescription> {
    const params = { thumbprint: clientKey.thumbprint };
    const { count = null, size = null, filters } = configuration;
    return client.call("describeService", { params, body: { count, size, filters: [...filters] } });
  }
  const specification = (): ClientSpecification | null => described?.description.specification ?? null;
  const count = (): number => configuration.count ?? specification()?.count ?? 1;
  const size = (): Size => configuration.size ?? specification()?.size ?? WHOLE;

  /** What was told before holds while the pool is away, or slow. */
  async function identity(): Promise<GpuIdentity> {
    try {
      const { models } = await soon(description(), state.current.identity !== null);
      // Also while the session of the service before this one is not found again yet.
      const isInUse = holding.held !== undefined || state.current.sessionId !== null;
      const chosen = chooseIdentity(state.current.identity, models, {
        count: count(),
        clientKey: clientKey.thumbprint,
        isInUse,
      });
      if (chosen !== state.current.identity) state.change({ identity: chosen });
      return chosen;
    } catch (error) {
      if (state.current.identity === null) throw error;
      return state.current.identity;
    }
  }

  async function take(...words: Parameters<Taking["take"]>): Promise<HeldSession> {
    try {
      return await taking.take(...words);
    } catch (error) {
      // Another certificate, another address: found anew at the next attempt.
      if (!words[0].aborted) reopenPool();
      throw error;
    }
  }

  async function wish(): Promise<SessionWish> {
    const told = await identity();
    const { idleAction, project } = configuration;
    return {
      clientKey: clientKey.publicKey,
      count: told.gpus.length,
      size: size(),
      name: undefined,
      waitMs: undefined,
      program: "client service",
      purpose: "service",
      project,
      labels: {},
      idleTimeoutMs: idleAction === "end" ? (idleTimeoutMs() ?? undefined) : undefined,
      maxDurationMs: undefined,
      autoReleaseMs: undefined,
      filters: [...configuration.filters, ...identityFilters(told)].map(parseFilter),
      priority: undefined,
      spreadServers: false,
    };
  }

  const taking = createTaking({
    ...{ manager, state, wish },
    clientKey: clientKey.thumbprint,
    async asked() {
      await description();
      return { count: count(), size: size() };
    },
    open: ({ handle, known, isOutdated }) =>
      openHeld({
        ...{ handle, clientKey, known, isOutdated },
        asNamed: (told) => (state.current.identity === null ? told : asNamed(told, state.current.identity)),
        changed: processesChanged,
      }),
    changed: () => holding.changed(),
    log: (sentence) => log.write(sentence),
  });

  function processesChanged(): void {
    const { held } = holding;
    if (held !== undefined)
      state.change({ sessionId: held.handle.session.id, processes: [...held.processes()] });
    holding.changed();
  }

  const isAlways = (): boolean => {
    const most = specification()?.hold ?? "always";
    // The file can only ask for less.
    return most === "always" && (configuration.hold ?? most) === "always";
  };
  const idleTimeoutMs = (): number | null => {
    if (configuration.idleTimeoutMs !== undefined) return configuration.idleTimeoutMs;
    return specification()?.idleTimeoutMs ?? IDLE_TIMEOUT_MS;
  };

  const holding = createHolding({
    isAlways: () => isAlways() || taking.isLookedFor(),
    idleTimeoutMs,
    take,
    giveUp: taking.giveUp,
    describe: ({ handle: { session }, isOutdated }) => {
      const next = `; ${formatRequest(count(), size())} is asked for when no program is in it any more`;
      return `${describeGpus(session)}, ${describeServers(session) ?? "?"}, session ${session.id}${isOutdated ? next : ""}`;
    },
    onChange: () => sdNotify(`STATUS=${holding.sentence.replaceAll("\n", " ")}`),
    log: (sentence) => log.write(sentence),
  });
  const members = createMembers({
    users: configuration.allowUsers,
    groups: configuration.allowGroups,
    owner: process.getuid?.() ?? 0,
    isPersonal: scope === "user",
  });
  const clients = watchClients({ refuse: (peer) => members.refuse(peer) });
  const status = (): object => ({
    version: VERSION,
    pid: process.pid,
    scope,
    configuration: places.configuration,
    ...describeConfiguration(configuration, { isAlways: isAlways(), idleTimeoutMs: idleTimeoutMs() }),
    allowed: members.description,
    state: holding.state,
    sentence: holding.sentence,
    waiting: holding.waiting,
    session: holding.held?.handle.session ?? null,
    processes: holding.held?.programs().map(({ pid, uid, program }) => ({ pid, uid, program })) ?? [],
    gpus:
      state.current.identity?.gpus.map(({ uuid }) => ({ uuid, name: state.current.identity?.model })) ?? [],
  });
  const isLeft = (connection: string | null): boolean =>
    holding.held === undefined &&
    state.current.processes.some(({ connectionId }) => connectionId === connection);
  const answer = createAnswers({
    ...{ holding, clients, members, log, identity, status },
    ...{ isLeft, processesChanged },
  });

  const server = createServer((connection) => receive(connection, answer));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ fd: socket.descriptor }, resolve);
  });
  server.on("error", (error) => log.write(`a program could not be answered: ${error.message}`));
  sdNotify(`READY=1\nSTATUS=${holding.sentence}`);
  log.write(`farpool ${VERSION} serves ${members.description} on ${places.socket}`);
  // What the manager says decides when there is to be a session; what was left decides that there is one.
  void description()
    .catch((error: unknown) => log.write(`the pool: ${messageOf(error)}`))
    .finally(() => holding.changed());

  await stopSignal();
  const job = await endingJob(scope);
  log.write(job === "restart" ? "restarting, the session goes on" : "stopping");
  sdNotify("STOPPING=1");
  await holding
    .stop(job === "restart" ? "leave" : "end")
    .catch((error: unknown) => log.write(`the session could not be left in order: ${String(error)}`));
  if (job === "stop") await stopSocket(scope);
  clients.close();
  server.close();
  socket.close();
  reopenPool();
  return 0;
}

/** For as long as a program may notice, where there is another answer; else for as long as it takes. */
async function soon<T>(work: Promise<T>, isOptional: boolean): Promise<T> {
  if (!isOptional) return work;
  const late = sleep(SOON_MS, undefined, { ref: false }).then(() => {
    throw new FarpoolError("FARPOOL_UNAVAILABLE", "the pool did not answer at once");
  });
  late.catch(() => undefined);
  work.catch(() => undefined);
  return Promise.race([work, late]);
}

async function openPool(): Promise<{ readonly client: ManagerClient; readonly close: () => void }> {
  const { address, membership } = await reachPool();
  const client = createClient(address);
  const working = new AbortController();
  membership?.keep(working.signal, () => undefined);
  return {
    client,
    close() {
      working.abort();
      client.close();
    },
  };
}

function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve());
  });
}

function describeConfiguration(
  { idleAction, localGpu }: ServiceConfiguration,
  { isAlways, idleTimeoutMs }: { readonly isAlways: boolean; readonly idleTimeoutMs: number | null },
): object {
  return {
    hold: isAlways ? "always" : "on-demand",
    idleTimeout: idleTimeoutMs === null ? null : formatDuration(idleTimeoutMs),
    idleAction,
    localGpu,
  };
}
