import { execFile } from "node:child_process";
import { accessSync, constants, existsSync, rmSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { FarpoolError, type ErrorCode, type Filter, type holdModes, type Size } from "@farpool/contract";
import { findInstallation, servicePlaces, type ServicePlaces, type ServiceScope } from "@farpool/layout";
import { say } from "../core/output.ts";
import { CDI_FILE } from "./cdi.ts";
import {
  formatConfiguration,
  formatIdleTimeout,
  parseConfiguration,
  type idleActions,
  type ServiceFile,
} from "./configuration.ts";
import { hasMadeLingering, noteLingering, removeFiles, writeFiles } from "./installed-files.ts";
import { findDriver, loaderFolders } from "./local-driver.ts";
import { chooseLocalGpu, terminalQuestion, type LocalGpu } from "./local-gpu.ts";
import { addProfileLine, profileFile, removeProfileLine } from "./profile.ts";
import { requireRoot, scopeOf, type Scopes } from "./scopes.ts";
import { smiFile } from "./smi-file.ts";
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
  // Everybody's programs read the file in a folder that this makes, however closed root's files are else.
  if (scope === "system") process.umask(0o022);
  const places = servicePlaces(scope);
  const asked = fileOf(options);
  const { shimFolder, cli, nvidiaSmi } = findInstallation();
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
  const smi = scope === "system" ? smiFile(nvidiaSmi) : undefined;
  const files: InstalledFile[] = [
    { path: places.configuration, text },
    ...unitFiles(places, { node: process.execPath, cli }),
    ...(scope === "system" ? [{ path: LOADER_FILE, text: `${shimFolder}\n` }] : []),
    ...(smi === undefined ? [] : [smi]),
    ...(options.manageGroup === undefined
      ? []
      : [{ path: POLICY_FILE, text: managePolicy(options.manageGroup) }]),
    ...(options.isProfile ? [profileFile(scope, shimFolder)] : []),
  ];
  const record = recordFile(places);
  if (scope === "user" && (await enableLingering())) noteLingering(record);
  // Where systemd does not run nothing is written.
  await systemctl(scope, ["daemon-reload"]);
  writeFiles(record, files);
  if (scope === "user") {
    if (options.isProfile) addProfileLine();
    else removeProfileLine();
  }
  if (scope === "system") await command("ldconfig", []);
  await systemctl(scope, ["daemon-reload"]);
  await systemctl(scope, ["enable", SOCKET_UNIT, SERVICE_UNIT]);
  await systemctl(scope, ["start", SOCKET_UNIT]);
  await systemctl(scope, ["restart", SERVICE_UNIT]);
  say(`the client service is installed and runs; ${places.configuration} says what it asks for`);
  if (scope === "user" && !options.isProfile)
    say(`programs find it after 'eval "$(farpool service env)"'; '--profile' does that at each login`);
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
  const record = recordFile(places);
  const mayLingerNoMore = hasMadeLingering(record);
  const known = scope === "system" ? [LOADER_FILE, POLICY_FILE, CDI_FILE] : [];
  removeFiles(record, [places.configuration, places.state, ...known]);
  if (scope === "user") removeProfileLine();
  else {
    await command("ldconfig", []);
    rmSync("/var/cache/farpool", { recursive: true, force: true });
  }
  await systemctl(scope, ["daemon-reload"]);
  await systemctl(scope, ["reset-failed", SERVICE_UNIT]).catch(() => undefined);
  if (mayLingerNoMore) await command("loginctl", ["disable-linger"]).catch(() => undefined);
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
    ...(idleTimeout === undefined ? {} : { "idle-timeout": formatIdleTimeout(idleTimeout) }),
    ...(idleAction === undefined ? {} : { "idle-action": idleAction }),
    ...(options.allowUsers === undefined ? {} : { "allow-users": [...options.allowUsers] }),
    ...(options.allowGroups === undefined ? {} : { "allow-groups": [...options.allowGroups] }),
  };
}

/** Everybody's programs load it. */
function requireReachable(path: string): void {
  if (!existsSync(path))
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `${path}, which programs are to load, is missing`, {
      hint: "in a checkout, 'npm run build' builds it; an installation is repaired by installing it again",
    });
  for (let folder = dirname(path); folder !== "/"; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) !== 0) continue;
    throw new FarpoolError("FARPOOL_USAGE", `other users cannot reach ${path}: ${folder} is closed to them`, {
      hint: `put the installation where everybody may go (/opt/farpool), or chmod o+x ${folder}`,
    });
  }
}

const recordFile = ({ state }: ServicePlaces): string => join(dirname(state), "client-service-files.json");

/** Whether it was off before. */
async function enableLingering(): Promise<boolean> {
  const { username } = userInfo();
  if (existsSync(`/var/lib/systemd/linger/${username}`)) return false;
  try {
    await command("loginctl", ["enable-linger"]);
    return true;
  } catch {
    say("note: the service runs only while you are logged in, as lingering could not be switched on");
    say(`hint: an administrator runs 'loginctl enable-linger ${username}'`);
    return false;
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
    const { code, hint } = kindOfFailure(why);
    throw new FarpoolError(code, `'${name} ${words.join(" ")}' failed: ${why}`, { hint, cause });
  }
}

function kindOfFailure(why: string): { readonly code: ErrorCode; readonly hint: string } {
  if (/access denied|authentication (is )?required/i.test(why))
    return {
      code: "FARPOOL_NOT_PERMITTED",
      hint: "root may, and for 'restart' the members of the group that 'farpool service install --manage-group' names",
    };
  if (why.startsWith("Job for "))
    return {
      code: "FARPOOL_UNAVAILABLE",
      hint: `'journalctl -u ${SERVICE_UNIT} -n 20' tells why it did not start (a person's own: 'journalctl --user -u …')`,
    };
  return {
    code: "FARPOOL_UNAVAILABLE",
    hint: "the client service is run by systemd; without it 'farpool run' and 'farpool shell' work",
  };
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
