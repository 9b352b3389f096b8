import { constants } from "node:os";
import { basename } from "node:path";
import { createClient, type ManagerClient } from "@farpool/client-api";
import { FarpoolError, formatDuration, type Session } from "@farpool/contract";
import type { SigningKey } from "@farpool/identity";
import { clientKeyFile, findInstallation, poolFolders } from "@farpool/layout";
import { isTerminal, say } from "../core/output.ts";
import { reachPool } from "../core/pool-client.ts";
import { startBroker, type Broker } from "./broker.ts";
import { runChild } from "./child.ts";
import { readOrCreateClientKey } from "./client-key.ts";
import { sessionEnvironment, withShim } from "./environment.ts";
import { joinsSession, sizeOf, type RunOptions, type SessionOptions } from "./options.ts";
import { findProgram, ProgramError } from "./program.ts";
import {
  grantedLine,
  heldLine,
  readLastReports,
  requireWritable,
  usageLine,
  writeSummary,
} from "./report.ts";
import { takeSession, type SessionHandle } from "./session.ts";

export function run(options: RunOptions, words: readonly string[]): Promise<number> {
  const [name, ...rest] = words;
  if (name === undefined) {
    throw new FarpoolError("FARPOOL_USAGE", "run needs a program", {
      hint: "farpool run -n 1 -- PROGRAM ARGUMENTS",
    });
  }
  return execute(options, [name, ...rest], true);
}

export function shell(options: SessionOptions): Promise<number> {
  return execute({ ...options, summary: undefined }, [process.env["SHELL"] ?? "/bin/sh"], false);
}

async function execute(
  options: RunOptions,
  [name = "", ...rest]: readonly string[],
  expectsShim: boolean,
): Promise<number> {
  try {
    const size = sizeOf(options);
    const file = findProgram(name, process.env["PATH"]);
    const { shimFolder } = findInstallation();
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
    const way = await reachPool();
    const client = createClient(way.address);
    const working = new AbortController();
    // A program may run for longer than a certificate lives; why it could not be renewed, the next command says.
    way.membership?.keep(working.signal, () => undefined);
    try {
      const wish = {
        clientKey: clientKey.publicKey,
        count: options.count ?? 1,
        size,
        name: options.name,
        waitMs: options.wait,
        program: basename(name),
      };
      const speaks = !options.isQuiet && (options.isVerbose || isTerminal());
      const handle = await waitForSession(client, wish, speaks);
      if (speaks) say(grantedLine(handle.session));
      return await runInSession({
        ...{ client, handle, clientKey, options, command },
        ...{ shimFolder, speaks, expectsShim },
      });
    } finally {
      working.abort();
      client.close();
    }
  } catch (error) {
    if (error instanceof SignalWhileWaiting) return error.exitCode;
    if (!(error instanceof ProgramError)) throw error;
    say(`farpool: ${error.message}`);
    return error.exitCode;
  }
}

class SignalWhileWaiting extends Error {
  readonly exitCode: number;

  constructor(name: "SIGINT" | "SIGTERM" | "SIGHUP") {
    super(name);
    this.exitCode = 128 + constants.signals[name];
  }
}

/** While waiting there is no program: a signal leaves the queue at once. */
async function waitForSession(
  client: ManagerClient,
  wish: Parameters<typeof takeSession>[1],
  speaks: boolean,
): Promise<SessionHandle> {
  const leaving = new AbortController();
  let left: SignalWhileWaiting | undefined;
  const handlers = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((name) => {
    const handler = (): void => {
      left ??= new SignalWhileWaiting(name);
      leaving.abort();
    };
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  let said = "";
  const queued = ({ id, queue }: Session): void => {
    const line = `waiting for ${queue?.waitsFor ?? "GPUs"}: position ${queue?.position ?? 1}, session ${id}`;
    if (speaks && line !== said) say(line);
    said = line;
  };
  const away = (): void => {
    const line = "the pool does not answer; its queue is kept, so the place in it is too";
    if (speaks && line !== said) say(line);
    said = line;
  };
  try {
    return await takeSession(client, wish, { queued, away, signal: leaving.signal });
  } catch (error) {
    throw left ?? error;
  } finally {
    for (const remove of handlers) remove();
  }
}

interface Work {
  readonly client: ManagerClient;
  readonly handle: SessionHandle;
  readonly clientKey: SigningKey;
  readonly options: RunOptions;
  readonly command: { readonly file: string; readonly name: string; readonly arguments: readonly string[] };
  readonly shimFolder: string;
  readonly speaks: boolean;
  readonly expectsShim: boolean;
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
}: Work): Promise<number> {
  const { session, connection } = handle;
  const startedAt = performance.now();
  let broker: Broker | undefined;
  try {
    const opened = await startBroker({
      sessionId: session.id,
      connection,
      clientKey,
      renewGrant: () => handle.renewGrant(),
      folder: poolFolders().runtime,
    });
    broker = opened;
    handle.onEnded((reason, message) => {
      const why = message ?? reason?.replaceAll("-", " ") ?? "unknown reason";
      say(`farpool: session ${session.id} has ended, its programs lose their GPUs: ${why}`);
      opened.refuse({
        exitCode: 69,
        cudaError: "CUDA_ERROR_DEVICE_UNAVAILABLE",
        sentence: `session ${session.id} has ended: ${why}`,
      });
    });
    const exitCode = await runChild({
      ...command,
      environment: sessionEnvironment(process.env, opened.path, shimFolder),
      mark: `FARPOOL_SESSION=${opened.path}`,
    });
    const durationMs = performance.now() - startedAt;
    // Who ended it by a signal knows why it used no GPU.
    const mayWonder = expectsShim && speaks && exitCode < 128;
    // The terminal has shown ^C, and nobody has begun a new line since.
    if (speaks && exitCode === 128 + constants.signals.SIGINT && isTerminal()) say("");
    if (mayWonder && opened.admitted.length === 0)
      await sayNeverLoaded(command.name, { durationMs, shimFolder });
    if (!speaks && options.summary === undefined) return exitCode;
    // A pool that has gone meanwhile changes nothing about how the program ended.
    const last = await readLastReports(client, handle, opened.admitted.length).catch(() => undefined);
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
    broker?.close();
    await handle.end().catch((error: unknown) => {
      // The lease ends it in a few seconds anyway.
      if (speaks)
        say(
          `farpool: the session could not be given back now: ${error instanceof Error ? error.message : String(error)}`,
        );
    });
  }
}

async function sayNeverLoaded(
  name: string,
  { durationMs, shimFolder }: { readonly durationMs: number; readonly shimFolder: string },
): Promise<void> {
  say(
    `note: ${name} ended after ${formatDuration(durationMs)} without ever loading libcuda.so.1, so it used no GPU`,
  );
  const { checkProgram } = await import("../doctor/program-checks.ts");
  const cause = checkProgram(name, shimFolder).find(({ result }) => result === "fail");
  if (cause === undefined) say(`hint: 'farpool doctor -- ${name}' tells which libcuda it would load`);
  else say(`hint: ${cause.message}; ${cause.hint ?? ""}`);
}
