import { constants } from "node:os";
import { basename } from "node:path";
import { createClient, type ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  formatDuration,
  type EndReason,
  type Session,
  type SessionId,
  type SessionNotice,
} from "@farpool/contract";
import type { SigningKey } from "@farpool/identity";
import { clientKeyFile, findInstallation, poolFolders } from "@farpool/layout";
import { isTerminal, say } from "../core/output.ts";
import { reachPool } from "../core/pool-client.ts";
import { joinSession } from "./attach.ts";
import { startBroker, type Broker } from "./broker.ts";
import { runChild } from "./child.ts";
import { readOrCreateClientKey } from "./client-key.ts";
import { sessionEnvironment, withShim } from "./environment.ts";
import { joinsSession, sizeOf, type RunOptions, type SessionOptions } from "./options.ts";
import { findProgramOrOurs } from "./program.ts";
import { whyEnded } from "./keep.ts";
import {
  grantedLine,
  heldLine,
  readLastReports,
  requireWritable,
  usageLine,
  writeSummary,
} from "./report.ts";
import { reportingProgramErrors, whileWaiting } from "./waiting.ts";
import { takeSession, type SessionHandle } from "./session.ts";

/** A program that failed does not keep its user waiting for a pool that is away. */
const SHOW_TIMEOUT_MS = 2_000;

/** What a way of running has beside the session: for the alias of the reference product. */
export interface Surroundings {
  /** Before the program starts; more variables for it. */
  begin(session: Session): NodeJS.ProcessEnv;
  /** Whether other users' processes may use the session, asked each time. */
  isOpenToOthers(): boolean;
  /** After it has ended. */
  end(): void;
}

export function run(
  options: RunOptions,
  words: readonly string[],
  surroundings?: Surroundings,
): Promise<number> {
  const [name, ...rest] = words;
  if (name === undefined) {
    throw new FarpoolError("FARPOOL_USAGE", "run needs a program", {
      hint: "farpool run -n 1 -- PROGRAM ARGUMENTS",
    });
  }
  return execute(options, [name, ...rest], { expectsShim: true, surroundings });
}

export function shell(options: SessionOptions): Promise<number> {
  return execute({ ...options, summary: undefined }, [process.env["SHELL"] ?? "/bin/sh"], {
    expectsShim: false,
  });
}

/** Runs a command, or a shell, in a reserved session. */
export async function attach(
  { isVerbose, isQuiet }: Pick<RunOptions, "isVerbose" | "isQuiet">,
  sessionId: SessionId,
  words: readonly string[],
): Promise<number> {
  const [name = process.env["SHELL"] ?? "/bin/sh", ...rest] = words;
  return reportingProgramErrors(async () => {
    const { shimFolder, nvidiaSmi } = findInstallation();
    const file = findProgramOrOurs(name, process.env["PATH"], nvidiaSmi);
    const command = { file, name, arguments: rest };
    const clientKey = readOrCreateClientKey(clientKeyFile(poolFolders()));
    const { client, close } = await openPool();
    try {
      const speaks = !isQuiet && (isVerbose || isTerminal());
      const handle = await whileWaiting(speaks, (waiting) =>
        joinSession(client, sessionId, { clientKey: clientKey.thumbprint, waiting }),
      );
      if (speaks) say(grantedLine(handle.session));
      return await runInSession({
        ...{ client, handle, clientKey, command, shimFolder, speaks },
        options: { isVerbose, summary: undefined },
        expectsShim: words.length > 0,
      });
    } finally {
      close();
    }
  });
}

/** Takes a session that lives without a process, and tells of it: its id is what a script wants to read. */
export async function reserve(
  options: SessionOptions & { readonly autoRelease: number | undefined },
  tell: (session: Session) => void,
): Promise<number> {
  return reportingProgramErrors(async () => {
    const clientKey = readOrCreateClientKey(clientKeyFile(poolFolders()));
    const { client, close } = await openPool();
    try {
      const wish = {
        ...wishOf(options, clientKey, "reserve"),
        ...{ purpose: "reserve" as const, autoReleaseMs: options.autoRelease },
      };
      const speaks = !options.isQuiet && (options.isVerbose || isTerminal());
      const handle = await whileWaiting(speaks, (waiting) => takeSession(client, wish, waiting));
      if (speaks) {
        say(grantedLine(handle.session));
      }
      tell(handle.session);
      await handle.end();
      return 0;
    } finally {
      close();
    }
  });
}

/** For as long as a program runs, which may be longer than a certificate lives: why it could not be renewed, the next command says. */
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

function wishOf(
  options: SessionOptions,
  clientKey: SigningKey,
  program: string,
): Parameters<typeof takeSession>[1] {
  return {
    clientKey: clientKey.publicKey,
    count: options.count ?? 1,
    size: sizeOf(options),
    name: options.name,
    waitMs: options.wait,
    program,
    purpose: "run",
    project: options.project,
    labels: Object.fromEntries(options.labels ?? []),
    idleTimeoutMs: options.idleTimeout,
    maxDurationMs: options.maxDuration,
    autoReleaseMs: undefined,
    filters: options.filters,
    priority: options.priority,
    spreadServers: options.isSpread,
  };
}

async function execute(
  options: RunOptions,
  [name = "", ...rest]: readonly string[],
  { expectsShim, surroundings }: Pick<Work, "expectsShim" | "surroundings">,
): Promise<number> {
  return reportingProgramErrors(async () => {
    // Before anything is asked for.
    sizeOf(options);
    const { shimFolder, nvidiaSmi } = findInstallation();
    const file = findProgramOrOurs(name, process.env["PATH"], nvidiaSmi);
    const command = { file, name, arguments: rest };
    if (joinsSession(options, process.env)) {
      const mark = `FARPOOL_SESSION=${process.env["FARPOOL_SESSION"] ?? ""}`;
      if (options.summary !== undefined) {
        throw new FarpoolError("FARPOOL_USAGE", "--summary belongs to a session of its own", {
          hint: "add --new",
        });
      }
      // Only its own descendants end with it: others of the session carry the same variable.
      return await runChild({ ...command, environment: withShim(process.env, shimFolder), mark: `${mark}#` });
    }
    if (options.summary !== undefined) requireWritable(options.summary);
    const clientKey = readOrCreateClientKey(clientKeyFile(poolFolders()));
    const { client, close } = await openPool();
    try {
      const wish = wishOf(options, clientKey, basename(name));
      const speaks = !options.isQuiet && (options.isVerbose || isTerminal());
      const handle = await whileWaiting(speaks, (waiting) => takeSession(client, wish, waiting));
      if (speaks) say(grantedLine(handle.session));
      return await runInSession({
        ...{ client, handle, clientKey, options, command },
        ...{ shimFolder, speaks, expectsShim, surroundings },
      });
    } finally {
      close();
    }
  });
}

interface Work {
  readonly client: ManagerClient;
  readonly handle: SessionHandle;
  readonly clientKey: SigningKey;
  readonly options: Pick<RunOptions, "isVerbose" | "summary">;
  readonly command: { readonly file: string; readonly name: string; readonly arguments: readonly string[] };
  readonly shimFolder: string;
  readonly speaks: boolean;
  readonly expectsShim: boolean;
  readonly surroundings?: Surroundings | undefined;
}

async function runInSession({
  client,
  handle,
  clientKey,
  options,
  command,
  shimFolder,
  speaks,
  expectsShim,
  surroundings,
}: Work): Promise<number> {
  const { session, connection } = handle;
  const startedAt = performance.now();
  let broker: Broker | undefined;
  try {
    const opened = await startBroker({
      sessionId: session.id,
      connection,
      clientKey,
      renewGrant: (serverId) => handle.renewGrant(serverId),
      readGpus: () => handle.readGpus(),
      folder: poolFolders().runtime,
      isOpenToOthers: surroundings && (() => surroundings.isOpenToOthers()),
    });
    broker = opened;
    let isEndTold = false;
    const tellEnd = (reason: EndReason | null, message: string | null): void => {
      if (isEndTold) return;
      isEndTold = true;
      const why = whyEnded(reason, message);
      say(`farpool: session ${session.id} has ended, its programs lose their GPUs: ${why}`);
      opened.refuse({
        exitCode: 69,
        cudaError: "CUDA_ERROR_DEVICE_UNAVAILABLE",
        sentence: `session ${session.id} has ended: ${why}`,
      });
    };
    handle.onEnded(tellEnd);
    handle.onNotice(({ kind, text }) => say(noticeLine(session.id, kind, text)));
    const exitCode = await runChild({
      ...command,
      environment: {
        ...sessionEnvironment(process.env, opened.path, shimFolder),
        ...surroundings?.begin(session),
      },
      mark: `FARPOOL_SESSION=${opened.path}`,
    });
    const durationMs = performance.now() - startedAt;
    // The server's word to the program may be faster than the manager's to us.
    if (exitCode !== 0 && !isEndTold) {
      const now = await showNow(client, session.id);
      if (now?.state === "ended") tellEnd(now.endReason, now.endMessage);
    }
    // Who ended it by a signal knows why it used no GPU.
    const mayWonder = expectsShim && speaks && exitCode < 128;
    // The terminal has shown ^C, and nobody has begun a new line since.
    if (speaks && exitCode === 128 + constants.signals.SIGINT && isTerminal()) say("");
    if (mayWonder && opened.admitted.length === 0 && !opened.wasLookedAt())
      await sayNeverLoaded(command.name, durationMs);
    if (speaks && handle.goesOn)
      say(`session ${session.id} goes on; 'farpool release ${session.id}' ends it`);
    if (handle.goesOn || (!speaks && options.summary === undefined)) return exitCode;
    // A pool that has gone meanwhile changes nothing about how the program ended.
    const last = await readLastReports(client, handle, opened.connectionCount()).catch(() => undefined);
    if (last === undefined) {
      if (options.summary !== undefined) say("farpool: no summary was written: the pool does not answer");
      return exitCode;
    }
    if (speaks) say(heldLine(last));
    if (speaks && options.isVerbose) say(usageLine(last));
    if (options.summary !== undefined) {
      writeSummary(options.summary, {
        detail: last,
        command: [command.name, ...command.arguments],
        exitCode,
        durationMs,
      });
    }
    return exitCode;
  } finally {
    surroundings?.end();
    if (handle.goesOn) await broker?.leave();
    else broker?.close();
    await handle.end().catch((error: unknown) => {
      // The lease ends it in a few seconds anyway.
      if (speaks)
        say(
          `farpool: the session could not be given back now: ${error instanceof Error ? error.message : String(error)}`,
        );
    });
  }
}

/** Undefined: the pool does not answer at once. */
function showNow(client: ManagerClient, sessionId: SessionId): Promise<Session | undefined> {
  return client
    .call("showSession", { params: { sessionId } }, { timeoutMs: SHOW_TIMEOUT_MS })
    .catch(() => undefined);
}

/** Said whatever else is said: somebody, or the pool, wants this person to know. */
function noticeLine(id: SessionId, kind: SessionNotice["kind"], text: string): string {
  return kind === "message"
    ? `farpool: message for session ${id}: ${text}`
    : `farpool: session ${id}: ${text}`;
}

async function sayNeverLoaded(name: string, durationMs: number): Promise<void> {
  say(
    `note: ${name} ended after ${formatDuration(durationMs)} without ever loading libcuda.so.1, so it used no GPU`,
  );
  const { checkProgram } = await import("../doctor/program-checks.ts");
  const cause = checkProgram(name, findInstallation()).find(({ result }) => result === "fail");
  if (cause === undefined) say(`hint: 'farpool doctor -- ${name}' tells which libcuda it would load`);
  else say(`hint: ${cause.message}; ${cause.hint ?? ""}`);
}
