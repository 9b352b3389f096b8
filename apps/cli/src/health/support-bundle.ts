import { execFileSync } from "node:child_process";
import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { release, version } from "node:os";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { createClient } from "@farpool/client-api";
import { COMMAND_NAME, FarpoolError, VERSION } from "@farpool/contract";
import { findInstallation, logFolder, poolFolders, upFile, type PoolFolders } from "@farpool/layout";
import { printJson, say } from "../core/output.ts";
import { poolAddress } from "../core/pool-client.ts";
import { examine } from "./health.ts";
import { createRedact } from "./secrets.ts";
import { tar } from "./tar.ts";

export interface BundleOptions {
  readonly isJson: boolean;
  readonly output: string | undefined;
  readonly state: string | undefined;
}

/** Of each log: what is older has seldom to do with it. */
const LOG_BYTES = 2 * 1024 * 1024;
const CALL = { timeoutMs: 10_000 } as const;

export async function supportBundle({ isJson, output, state }: BundleOptions): Promise<number> {
  const now = new Date();
  const name = `farpool-support-${now.toISOString().replaceAll(/[-:]|\.\d+/g, "")}`;
  const file = output ?? `${name}.tar.gz`;
  if (state !== undefined) process.env["FARPOOL_STATE"] = state;
  const folders = poolFolders();
  const redact = createRedact(folders, process.env);
  const texts = await gather(folders);
  // Everything goes through the same hands, whatever it is and wherever it came from.
  const entries = texts.map(([path, text]) => ({
    name: `${name}/${path}`,
    content: Buffer.from(redact(text)),
  }));
  write(file, gzipSync(tar(entries, now)));
  const size = statSync(file).size;
  if (isJson) printJson({ file, bytes: size, contents: texts.map(([path]) => path) });
  else {
    say(`${file}: ${(size / 1024).toFixed(0)} KiB, without keys, tokens and passwords`);
    say(`look at it: tar -xzOf ${file} | less`);
  }
  return 0;
}

function write(file: string, bytes: Buffer): void {
  try {
    writeFileSync(file, bytes, { mode: 0o600 });
  } catch (cause) {
    const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new FarpoolError("FARPOOL_USAGE", `the archive cannot be written to '${file}' (${why})`, {
      hint: "--output names a file in a folder that exists and that you may write to",
      cause,
    });
  }
}

type Text = readonly [path: string, text: string];

async function gather(folders: PoolFolders): Promise<readonly Text[]> {
  return [
    ["versions.json", pretty(versions())],
    ["settings.json", pretty(settings(folders))],
    ["health.json", pretty(await attempt(() => examine(false)))],
    ["pool.json", pretty(await attempt(readPool))],
    ["machine.txt", machine()],
    ...logs(folders),
  ];
}

function versions(): object {
  const installation = findInstallation();
  const parts = [
    installation.cli,
    installation.acceptor,
    installation.worker,
    join(installation.shimFolder, "libcuda.so.1"),
  ];
  return {
    [COMMAND_NAME]: VERSION,
    node: process.version,
    system: `${version()} ${release()}`,
    distribution: textOf("/etc/os-release"),
    parts: parts.map((file) => ({ file, ...describeFile(file) })),
  };
}

/** Names, sizes and modes; of files that hold keys nothing else. */
function settings(folders: PoolFolders): object {
  const variables = Object.entries(process.env).filter(([name]) =>
    /^(FARPOOL_|CUDA_|NVIDIA_|LD_)/.test(name),
  );
  return {
    folders,
    environment: Object.fromEntries(variables),
    record: textOf(upFile(folders)),
    state: listing(folders.state),
    runtime: listing(folders.runtime),
  };
}

function listing(folder: string): object {
  try {
    return Object.fromEntries(readdirSync(folder).map((name) => [name, describeFile(join(folder, name))]));
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

function describeFile(file: string): object {
  try {
    const { mode, size, uid, mtime } = statSync(file);
    return { mode: (mode & 0o7777).toString(8), size, owner: uid, modified: mtime.toISOString() };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

async function readPool(): Promise<object> {
  const client = createClient(poolAddress());
  try {
    const [status, servers, gpus, sessions, audit] = await Promise.all([
      client.call("status", {}, CALL),
      client.call("listServers", {}, CALL),
      client.call("listGpus", {}, CALL),
      client.call("listSessions", { query: { ended: 50 } }, CALL),
      client.call("audit", { query: { last: 200 } }, CALL),
    ]);
    return { status, ...servers, ...gpus, ...sessions, audit: audit.entries };
  } finally {
    client.close();
  }
}

/** What a person would ask for next. */
function machine(): string {
  const commands = [
    ["ip", "-brief", "address"],
    ["ip", "-brief", "link"],
    ["df", "-h"],
    ["free", "-m"],
    ["ldconfig", "-p"],
    ["nvidia-smi"],
    ["nvidia-smi", "-q", "-d", "ECC,TEMPERATURE,PERFORMANCE"],
  ] as const;
  const outputs = commands.map(([file, ...words]) => {
    const text = output(file, words);
    const shown =
      file === "ldconfig"
        ? text
            .split("\n")
            .filter((line) => line.includes("cuda"))
            .join("\n")
        : text;
    return `$ ${[file, ...words].join(" ")}\n${shown}`;
  });
  return [`limits of this process\n${textOf("/proc/self/limits")}`, ...outputs].join("\n\n");
}

function output(file: string, words: readonly string[]): string {
  const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
  try {
    return execFileSync(file, words, {
      encoding: "utf8",
      timeout: 10_000,
      env: { ...process.env, PATH: path },
      stdio: ["ignore", "pipe", "ignore"],
    }).trimEnd();
  } catch (error) {
    return `(${error instanceof Error && "code" in error ? String(error.code) : "it failed"})`;
  }
}

function logs(folders: PoolFolders): Text[] {
  const folder = logFolder(folders);
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(".log"))
      .map((name): Text => [`logs/${basename(name)}`, endOf(join(folder, name))]);
  } catch (error) {
    return [["logs/none.txt", `${error instanceof Error ? error.message : String(error)}\n`]];
  }
}

/** From the beginning of a line on: half of a secret would not be known for one. */
function endOf(file: string): string {
  const descriptor = openSync(file, "r");
  try {
    const { size } = fstatSync(descriptor);
    const bytes = Buffer.alloc(Math.min(size, LOG_BYTES));
    readSync(descriptor, bytes, 0, bytes.length, size - bytes.length);
    const text = bytes.toString("utf8");
    return bytes.length === size ? text : text.slice(text.indexOf("\n") + 1);
  } finally {
    closeSync(descriptor);
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    return `(${error instanceof Error ? error.message : String(error)})`;
  }
}

async function attempt<T>(work: () => Promise<T>): Promise<T | { readonly error: string }> {
  try {
    return await work();
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

const pretty = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
