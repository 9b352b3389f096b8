import { execFile } from "node:child_process";
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { FarpoolError, formatDuration, type Filter, type holdModes, type Size } from "@farpool/contract";
import { findInstallation, servicePlaces, type ServicePlaces, type ServiceScope } from "@farpool/layout";
import { say } from "../core/output.ts";
import {
  formatConfiguration,
  parseConfiguration,
  type idleActions,
  type ServiceFile,
} from "./configuration.ts";
import { findDriver, loaderFolders } from "./local-driver.ts";
import { chooseLocalGpu, terminalQuestion, type LocalGpu } from "./local-gpu.ts";
import { requireRoot, scopeOf, type Scopes } from "./scopes.ts";
import { SERVICE_UNIT, SOCKET_UNIT, systemctlWords } from "./systemd.ts";
import { LOADER_FILE, managePolicy, POLICY_FILE, unitFiles, type InstalledFile } from "./units.ts";

export interface InstallOptions extends Scopes {
  readonly count: number | undefined;
  readonly share: Size | undefined;
  readonly memory: Size | undefined;
  readonly filters: readonly Filter[] | undefined;
  readonly project: string | undefined;
  readonly hold: (typeof holdModes)[number] | undefined;
  readonly idleTimeout: number | undefined;
  readonly idleAction: (typeof idleActions)[number] | undefined;
  readonly allowUsers: readonly string[] | undefined;
  readonly allowGroups: readonly string[] | undefined;
  readonly manageGroup: string | undefined;
  readonly localGpu: LocalGpu | undefined;
  readonly isProfile: boolean;
}

export async function install(options: InstallOptions): Promise<number> {
  const scope = scopeOf(options);
  requireRoot(scope, "install");
  const places = servicePlaces(scope);
  const asked = fileOf(options);
  const { shimFolder, cli } = findInstallation();
  const shim = join(shimFolder, "libcuda.so.1");
  const localGpu = await chooseLocalGpu({
    ...{ scope, wanted: options.localGpu, ask: terminalQuestion() },
    driver: findDriver(loaderFolders({ without: LOADER_FILE }), shim),
  });
  const text = formatConfiguration({
    ...asked,
    ...(localGpu === undefined ? {} : { "local-gpu": localGpu }),
  });
  // What cannot be read again is not written.
  parseConfiguration(text, places.configuration);
  if (scope === "system") requireReachable(shim);
  const files: InstalledFile[] = [
    { path: places.configuration, text },
    ...unitFiles(places, { node: process.execPath, cli }),
    ...(scope === "system" ? [{ path: LOADER_FILE, text: `${shimFolder}\n` }] : []),
    ...(options.manageGroup === undefined
      ? []
      : [{ path: POLICY_FILE, text: managePolicy(options.manageGroup) }]),
    ...(options.isProfile ? [profileFile(scope, shimFolder)] : []),
  ];
  const made = readRecord(places);
  for (const { path, text: content } of files) {
    made.files = [...new Set([...made.files, path])];
    made.folders = [...new Set([...made.folders, ...makeFolders(dirname(path))])];
    writeFileSync(path, content, { mode: 0o644 });
    chmodSync(path, 0o644);
  }
  if (options.isProfile && scope === "user") addProfileLine();
  writeRecord(places, made);
  if (scope === "system") await command("ldconfig", []);
  else await enableLingering();
  await systemctl(scope, ["daemon-reload"]);
  await systemctl(scope, ["enable", SOCKET_UNIT, SERVICE_UNIT]);
  await systemctl(scope, ["start", SOCKET_UNIT]);
  await systemctl(scope, ["restart", SERVICE_UNIT]);
  say(`the client service is installed and runs; ${places.configuration} says what it asks for`);
  say("'farpool service status' tells what it has, 'farpool service uninstall' removes it");
  return 0;
}

export async function uninstall(options: Scopes): Promise<number> {
  const scope = scopeOf(options);
  requireRoot(scope, "uninstall");
  const places = servicePlaces(scope);
  await systemctl(scope, ["disable", "--now", SOCKET_UNIT, SERVICE_UNIT]).catch((error: unknown) => {
    if (existsSync(places.configuration)) throw error;
  });
  const made = readRecord(places);
  const own = [places.configuration, places.state, recordFile(places)];
  for (const path of [...made.files, ...own]) rmSync(path, { force: true });
  if (scope === "user") removeProfileLine();
  // Deepest first; one that others use stays.
  for (const folder of made.folders.toSorted((left, right) => right.length - left.length))
    removeIfEmpty(folder);
  await systemctl(scope, ["daemon-reload"]);
  await systemctl(scope, ["reset-failed", SERVICE_UNIT]).catch(() => undefined);
  if (scope === "system") {
    await command("ldconfig", []);
    rmSync("/var/cache/farpool", { recursive: true, force: true });
  }
  say(`the client service is gone; its log is left: ${places.log}`);
  return 0;
}

/** All but what becomes of the machine's own GPUs. */
function fileOf(options: InstallOptions): ServiceFile {
  const { share, memory, hold, idleTimeout, idleAction } = options;
  if (share !== undefined && memory !== undefined)
    throw new FarpoolError(
      "FARPOOL_USAGE",
      "-p and -m both say how large the GPUs are; one of them is enough",
      {
        hint: "-p is a share of each GPU, -m an amount of memory",
      },
    );
  return {
    ...(options.count === undefined ? {} : { gpus: options.count }),
    ...(share?.kind === "share" ? { share: share.share } : {}),
    ...(share?.kind === "whole" ? { share: 1 } : {}),
    ...(memory?.kind === "memory" ? { memory: `${memory.memoryMib}MiB` } : {}),
    ...(options.filters === undefined ? {} : { filters: options.filters.map(({ text }) => text) }),
    ...(options.project === undefined ? {} : { project: options.project }),
    ...(hold === undefined ? {} : { hold }),
    ...(idleTimeout === undefined
      ? {}
      : { "idle-timeout": idleTimeout === 0 ? "never" : durationText(idleTimeout) }),
    ...(idleAction === undefined ? {} : { "idle-action": idleAction }),
    ...(options.allowUsers === undefined ? {} : { "allow-users": [...options.allowUsers] }),
    ...(options.allowGroups === undefined ? {} : { "allow-groups": [...options.allowGroups] }),
  };
}

/** As `idle-timeout` reads it again. */
function durationText(ms: number): string {
  return formatDuration(ms).includes(".") ? `${ms}ms` : formatDuration(ms).replaceAll(" ", "");
}

/** Everybody's programs load it. */
function requireReachable(path: string): void {
  for (let folder = dirname(path); folder !== "/"; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) !== 0) continue;
    throw new FarpoolError("FARPOOL_USAGE", `other users cannot reach ${path}: ${folder} is closed to them`, {
      hint: `put the installation where everybody may go (/opt/farpool), or chmod o+x ${folder}`,
    });
  }
}

function profileFile(scope: ServiceScope, shimFolder: string): InstalledFile {
  const path = scope === "system" ? "/etc/profile.d/farpool-client.sh" : userProfile();
  const line = `export LD_LIBRARY_PATH="${shimFolder}\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"`;
  return { path, text: `# Written by 'farpool service install --profile'.\n${line}\n` };
}

const userProfile = (): string => join(homedir(), ".config/farpool/client-service.sh");
const PROFILE_MARK = "# farpool client service";
const profileLine = (): string => `[ ! -r "${userProfile()}" ] || . "${userProfile()}" ${PROFILE_MARK}`;

function addProfileLine(): void {
  const path = join(homedir(), ".profile");
  const text = existsSync(path) ? readFileSync(path, "utf8") : "";
  if (!text.includes(PROFILE_MARK))
    writeFileSync(path, `${text}${text === "" || text.endsWith("\n") ? "" : "\n"}${profileLine()}\n`);
}

function removeProfileLine(): void {
  const path = join(homedir(), ".profile");
  if (!existsSync(path)) return;
  const lines = readFileSync(path, "utf8").split("\n");
  const left = lines.filter((line) => !line.endsWith(PROFILE_MARK));
  if (left.length !== lines.length) writeFileSync(path, left.join("\n"));
}

/** What was made, so that exactly this is removed. */
interface InstallRecord {
  files: readonly string[];
  folders: readonly string[];
}

const recordFile = ({ state }: ServicePlaces): string => join(dirname(state), "client-service-files.json");

function readRecord(places: ServicePlaces): InstallRecord {
  try {
    return JSON.parse(readFileSync(recordFile(places), "utf8")) as InstallRecord;
  } catch {
    return { files: [], folders: [] };
  }
}

function writeRecord(places: ServicePlaces, record: InstallRecord): void {
  mkdirSync(dirname(recordFile(places)), { recursive: true, mode: 0o711 });
  writeFileSync(recordFile(places), `${JSON.stringify(record)}\n`, { mode: 0o600 });
}

/** Answers those that were not there. */
function makeFolders(folder: string): readonly string[] {
  const missing: string[] = [];
  for (let each = folder; !existsSync(each); each = dirname(each)) missing.push(each);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  return missing;
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Somebody else's files are in it, or it is gone.
  }
}

async function enableLingering(): Promise<void> {
  const { username } = userInfo();
  if (existsSync(`/var/lib/systemd/linger/${username}`)) return;
  try {
    await command("loginctl", ["enable-linger"]);
  } catch {
    say("note: the service runs only while you are logged in, as lingering could not be switched on");
    say(`hint: an administrator runs 'loginctl enable-linger ${username}'`);
  }
}

export async function systemctl(scope: ServiceScope, words: readonly string[]): Promise<string> {
  return command("systemctl", systemctlWords(scope, words));
}

async function command(name: string, words: readonly string[]): Promise<string> {
  try {
    const path = ["/usr/sbin", "/sbin"].map((folder) => join(folder, name)).find(isProgram) ?? name;
    const { stdout } = await promisify(execFile)(path, [...words], { maxBuffer: 16 << 20 });
    return stdout;
  } catch (cause) {
    const said = cause instanceof Error && "stderr" in cause ? String(cause.stderr).trim() : "";
    const why = said === "" ? (cause instanceof Error ? cause.message : String(cause)) : said;
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `'${name} ${words.join(" ")}' failed: ${why}`, {
      hint: "the client service is run by systemd; without it 'farpool run' and 'farpool shell' work",
      cause,
    });
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
