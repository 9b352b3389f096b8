import { execFile } from "node:child_process";
import { existsSync, statSync, type Stats } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { VERSION } from "@farpool/contract";
import {
  servicePlaces,
  serviceScopes,
  type Installation,
  type ServicePlaces,
  type ServiceScope,
} from "@farpool/layout";
import { loaderCache } from "../core/loader-cache.ts";
import { askServices, type AskedService } from "../service/ask.ts";
import {
  configurationFiles,
  findDriver,
  foldersOf,
  foldersOfPath,
  isSameLibrary,
  librariesIn,
} from "../service/local-driver.ts";
import { SERVICE_UNIT, SOCKET_UNIT, systemctlWords } from "../service/systemd.ts";
import { LOADER_FILE } from "../service/units.ts";
import { fail, pass, warning, type Check } from "./check.ts";
import { tryConnect } from "./pool-checks.ts";

const ANSWER_TIMEOUT_MS = 5_000;
const LIBRARY = "libcuda.so.1";

/** What a client service on this machine needs; nothing where none is installed. */
export async function checkServices({ shimFolder }: Pick<Installation, "shimFolder">): Promise<Check[]> {
  // What is installed, not what this shell names.
  const environment = { ...process.env, FARPOOL_BROKER: undefined, FARPOOL_SERVICE_CONFIG: undefined };
  const shim = join(shimFolder, LIBRARY);
  const checks: Check[] = [];
  for (const places of serviceScopes.map((scope) => servicePlaces(scope, environment))) {
    const { scope, configuration } = places;
    if (!existsSync(configuration) && !(scope === "system" && existsSync(LOADER_FILE))) continue;
    const cache = loaderCache();
    if (scope === "system") checks.push(checkLoaderFile(LOADER_FILE, shim), checkLoaderCache(cache, shim));
    else checks.push(checkShell([...foldersOfPath(process.env["LD_LIBRARY_PATH"])], cache, shim));
    const owner = scope === "system" ? 0 : (process.getuid?.() ?? 0);
    checks.push(checkEnabled(scope, await enabledStates(scope)), await checkSocket(places, owner));
    const [asked] = await askServices([scope], ANSWER_TIMEOUT_MS, environment);
    checks.push(...checkAnswer(scope, asked));
  }
  return checks;
}

const nameOf = (scope: ServiceScope, what: string): string =>
  scope === "system" ? `service ${what}` : `own service ${what}`;
const sudo = (scope: ServiceScope): string => (scope === "system" ? "sudo " : "");
const installs = (scope: ServiceScope): string => `${sudo(scope)}farpool service install --${scope}`;
const systemctl = (scope: ServiceScope): string =>
  `${sudo(scope)}${["systemctl", ...systemctlWords(scope, [])].join(" ")}`;

/** The loader takes the first libcuda.so.1 that its files lead to: ours has to be that. */
export function checkLoaderFile(file: string, shim: string): Check {
  const name = nameOf("system", "loader file");
  const again = `'${installs("system")}' writes it anew; it takes the options that it was given before`;
  if (!existsSync(file))
    return fail(name, `${file} is missing: programs find no ${LIBRARY} of the service`, again);
  const folders = foldersOf(file);
  const [named] = librariesIn(folders);
  if (named === undefined)
    return fail(
      name,
      `${file} names ${folders.join(", ") || "no folder"}, where there is no ${LIBRARY}`,
      again,
    );
  if (!isSameLibrary(named, shim))
    return warning(name, `${file} leads to ${named}, this installation's is ${shim}`, again);
  const files = configurationFiles(dirname(file));
  for (const earlier of files.slice(0, files.indexOf(file))) {
    const rival = findDriver(foldersOf(earlier), shim);
    if (rival !== undefined)
      return fail(
        name,
        `${earlier} comes before ${file} and leads to ${rival}`,
        `rename ${earlier} so that it sorts after ${file}, then 'sudo ldconfig'`,
      );
  }
  return pass(name, `${file} is the first that leads to a ${LIBRARY}`);
}

export function checkLoaderCache(cache: readonly string[], shim: string): Check {
  const name = nameOf("system", "loader cache");
  const [first] = cache;
  if (first !== undefined && isSameLibrary(first, shim)) return pass(name, `the loader finds ${first} first`);
  if (!cache.some((path) => isSameLibrary(path, shim)))
    return fail(name, `the loader's cache does not have ${shim}`, "'sudo ldconfig' makes it anew");
  return fail(
    name,
    `the loader's cache has ${first ?? "another"} before ${shim}`,
    "'sudo ldconfig' makes it anew; if that changes nothing, take the other folder out of /etc/ld.so.conf",
  );
}

/** Of a person's own service the loader's files say nothing: her shell does. */
export function checkShell(path: readonly string[], cache: readonly string[], shim: string): Check {
  const name = nameOf("user", "loader");
  const [first] = [...librariesIn(path), ...cache];
  if (first !== undefined && isSameLibrary(first, shim))
    return pass(name, `programs of this shell load ${first}`);
  return warning(
    name,
    `programs of this shell load ${first ?? `no ${LIBRARY}`}, and not ${shim}`,
    `eval "$(farpool service env)" in this shell, or '${installs("user")} --profile' for all that log in`,
  );
}

/** `states` is what `systemctl is-enabled` says of both; undefined: it says nothing. */
export function checkEnabled(scope: ServiceScope, states: readonly string[] | undefined): Check {
  const name = nameOf(scope, "units");
  const units = [SOCKET_UNIT, SERVICE_UNIT];
  if (states === undefined)
    return warning(
      name,
      "systemd does not say whether they are enabled",
      `the client service is run by systemd: '${systemctl(scope)} is-enabled ${SOCKET_UNIT}' tells what is wrong`,
    );
  const others = units.flatMap((unit, index) =>
    states[index] === "enabled" ? [] : [`${unit} is ${states[index] ?? "unknown"}`],
  );
  if (others.length === 0) return pass(name, `${units.join(" and ")} are enabled`);
  if (others.some((state) => state.endsWith(" not-found")))
    return fail(
      name,
      others.join(", "),
      `'${installs(scope)}' brings them, '${sudo(scope)}farpool service uninstall --${scope}' removes what is left`,
    );
  return warning(
    name,
    `${others.join(", ")}: after the next start of this machine the service is not there`,
    `'${systemctl(scope)} enable --now ${units.join(" ")}'`,
  );
}

export async function checkSocket({ scope, socket }: ServicePlaces, owner: number): Promise<Check> {
  const name = nameOf(scope, "socket");
  const restart = `'${systemctl(scope)} restart ${SOCKET_UNIT}' makes it anew`;
  let status: Stats;
  try {
    status = statSync(socket);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    return fail(
      name,
      code === "ENOENT" ? `${socket} is missing` : `${socket} cannot be reached (${code})`,
      restart,
    );
  }
  if (!status.isSocket()) return fail(name, `${socket} is no socket`, `remove it; ${restart}`);
  if (status.uid !== owner)
    return fail(
      name,
      `${socket} belongs to user ${status.uid}, expected user ${owner}: programs do not trust it`,
      `find out who made it; ${restart}`,
    );
  if (scope === "system" && (status.mode & 0o006) !== 0o006)
    return fail(
      name,
      `${socket} is closed to other users (mode ${(status.mode & 0o777).toString(8)}, expected 666)`,
      `SocketMode=0666 belongs into ${SOCKET_UNIT}; ${restart}`,
    );
  const problem = await tryConnect({ kind: "unix", path: socket });
  if (problem !== undefined) return fail(name, `nobody listens on ${socket} (${problem})`, restart);
  return pass(name, `${socket} listens`);
}

/** That nobody is there the socket's check has said. */
export function checkAnswer(scope: ServiceScope, asked: AskedService | undefined): Check[] {
  if (asked === undefined) return [];
  const name = scope === "system" ? "service" : "own service";
  if (asked.status === undefined)
    return [
      fail(
        name,
        asked.trouble.message,
        asked.trouble.hint ?? `'${systemctl(scope)} status ${SERVICE_UNIT}' tells why`,
      ),
    ];
  const { version, state, sentence, you } = asked.status;
  const old =
    version === VERSION
      ? []
      : [
          warning(
            `${name} version`,
            `the service is ${version}, this command is ${VERSION}`,
            `'${sudo(scope)}farpool service restart --${scope}' starts the new one; programs go on`,
          ),
        ];
  if (state === "refused")
    return [
      ...old,
      fail(
        name,
        `it gets no GPU: ${sentence}`,
        "an administrator says what it may have: 'farpool admin clients show', 'farpool admin clients set'",
      ),
    ];
  if (you.refusal !== null)
    return [...old, warning(name, you.refusal, "programs of this user get the local driver's GPU, or none")];
  return [...old, pass(name, `${state}: ${sentence}`)];
}

/** Each asked for itself: about one that is missing some versions say nothing else. */
async function enabledStates(scope: ServiceScope): Promise<readonly string[] | undefined> {
  const states = await Promise.all([SOCKET_UNIT, SERVICE_UNIT].map((unit) => enabledState(scope, unit)));
  const known = states.filter((state) => state !== undefined);
  return known.length === states.length ? known : undefined;
}

async function enabledState(scope: ServiceScope, unit: string): Promise<string | undefined> {
  const words = systemctlWords(scope, ["is-enabled", unit]);
  try {
    const { stdout } = await promisify(execFile)("systemctl", words, { timeout: ANSWER_TIMEOUT_MS });
    return stdout.trim();
  } catch (error) {
    // It fails, too, when it has an answer that is not 'enabled'.
    const said = error instanceof Error && "stdout" in error ? String(error.stdout).trim() : "";
    if (said !== "") return said;
    const complaint = error instanceof Error && "stderr" in error ? String(error.stderr) : "";
    return complaint.includes("No such file") ? "not-found" : undefined;
  }
}
