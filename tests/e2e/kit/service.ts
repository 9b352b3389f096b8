import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { listenUnix } from "@farpool/os";
import { library, farpool } from "../../../scripts/repository.ts";
import type { Pool } from "./pool.ts";
import {
  type ProgramOptions,
  type ProgramResult,
  type RunningProgram,
  execute,
  start,
  waitFor,
} from "./program.ts";

/** A client service without systemd: on a socket of its own, which its programs are told by FARPOOL_BROKER. */
export interface Service {
  readonly program: RunningProgram;
  readonly environment: Readonly<Record<string, string>>;
  /** A program as users start it: no wrapper, no session. */
  run(words: readonly string[], options?: ProgramOptions): Promise<ProgramResult>;
  start(words: readonly string[], options?: ProgramOptions): RunningProgram;
  status(): Promise<ServiceStatus>;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface ServiceStatus {
  readonly state: string;
  readonly sentence: string;
  readonly waiting: number;
  readonly session: { readonly id: string } | null;
  readonly processes: ReadonlyArray<{ readonly pid: number; readonly program: string }>;
}

/** What a service has of systemd: a socket that outlives it, and the word that it is restarted. */
export interface Systemd {
  readonly socket: number;
  readonly environment: Readonly<Record<string, string>>;
}

export function standInForSystemd(pool: Pool): Systemd {
  const [programs, sockets] = [join(pool.folder, "systemd"), join(pool.folder, "client")];
  for (const folder of [programs, sockets]) mkdirSync(folder, { mode: 0o755, recursive: true });
  const listing = "#!/bin/sh\necho '1 farpool-client.service restart running'\n";
  writeFileSync(join(programs, "systemctl"), listing, { mode: 0o755 });
  const environment = {
    PATH: `${programs}:${process.env["PATH"] ?? ""}`,
    INVOCATION_ID: "1",
    LISTEN_FDS: "1",
  };
  return { socket: listenUnix(join(sockets, "broker.sock"), 0o666), environment };
}

export async function startService(pool: Pool, configuration: string, systemd?: Systemd): Promise<Service> {
  const file = join(pool.folder, "client-service.yaml");
  writeFileSync(file, configuration);
  const environment = {
    ...pool.environment,
    FARPOOL_BROKER: join(pool.folder, "client", "broker.sock"),
    FARPOOL_SERVICE_CONFIG: file,
    ...systemd?.environment,
  };
  // The number of a process is known to itself.
  const words = ["sh", "-c", 'LISTEN_PID=$$ exec "$0" internal client-service system', farpool];
  const program = start(words, {
    environment,
    ...(systemd === undefined ? {} : { passed: systemd.socket }),
  });
  // What a program on a client has: the loader's path, and where the service is.
  const ofPrograms = {
    LD_LIBRARY_PATH: dirname(library.shim),
    FARPOOL_BROKER: environment.FARPOOL_BROKER,
    FARPOOL_LOG: "stderr",
  };
  const withService = (options: ProgramOptions = {}): ProgramOptions => ({
    ...options,
    environment: { ...ofPrograms, ...options.environment },
  });
  const service: Service = {
    program,
    environment,
    run: (words, options) => execute(words, withService(options)),
    start: (words, options) => start(words, withService(options)),
    async status() {
      const { stdout, stderr } = await execute([farpool, "service", "status", "--json"], { environment });
      const [status] =
        (JSON.parse(stdout === "" ? "{}" : stdout) as { services?: ServiceStatus[] }).services ?? [];
      if (status === undefined) throw new Error(`no service: ${stdout}${stderr}`);
      return status;
    },
    async stop(signal = "SIGTERM") {
      program.child.kill(signal);
      await program.ended;
    },
  };
  await program.until(" serves ");
  return service;
}

/** The state of the service, once it is this one. */
export function untilState(service: Service, state: string): Promise<ServiceStatus> {
  return waitFor(`the service is ${state}`, async () => {
    const status = await service.status();
    return status.state === state ? status : undefined;
  });
}
