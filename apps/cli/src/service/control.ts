import { existsSync } from "node:fs";
import { FarpoolError, formatBytes, type Session } from "@farpool/contract";
import { findInstallation, servicePlaces, type ServiceScope } from "@farpool/layout";
import { counted, print, printJson, say } from "../core/output.ts";
import { askService } from "./ask.ts";
import { requireRoot, scopeOf, systemctl, type InstallOptions } from "./install.ts";
import { SERVICE_UNIT, SOCKET_UNIT } from "./systemd.ts";

type Scopes = Pick<InstallOptions, "isSystem" | "isUser">;

export async function control(verb: "start" | "stop" | "restart", options: Scopes): Promise<number> {
  const scope = scopeOf(options);
  if (verb !== "restart") requireRoot(scope, verb);
  const places = servicePlaces(scope);
  if (!existsSync(places.configuration))
    throw new FarpoolError(
      "FARPOOL_NOT_FOUND",
      `there is no client service: ${places.configuration} is missing`,
      {
        hint: `'farpool service install --${scope}' makes one`,
      },
    );
  // Its socket stays over a restart, so programs wait and do not fail.
  await systemctl(scope, verb === "restart" ? [verb, SERVICE_UNIT] : [verb, SOCKET_UNIT, SERVICE_UNIT]);
  return 0;
}

interface Status {
  readonly scope: ServiceScope;
  readonly state: string;
  readonly sentence: string;
  readonly waiting: number;
  readonly hold: string;
  readonly idleTimeout: string | null;
  readonly allowed: string;
  readonly configuration: string;
  readonly session: Session | null;
  readonly processes: ReadonlyArray<{ readonly pid: number; readonly uid: number; readonly program: string }>;
  readonly you: { readonly uid: number; readonly refusal: string | null };
}

/** In the order in which programs look: the first that serves is theirs. */
export async function status(options: Scopes & { readonly isJson: boolean }): Promise<number> {
  const found: Status[] = [];
  for (const scope of wantedScopes(options)) {
    const lines = await askService(servicePlaces(scope).socket, "status");
    const json = lines?.find((line) => line.startsWith("json "))?.slice("json ".length);
    if (json !== undefined) found.push(JSON.parse(json) as Status);
  }
  if (options.isJson) printJson({ services: found, order: order(found) });
  else {
    for (const each of found) print(describe(each));
    if (found.length === 0) print("no client service runs");
    print(`programs use: ${order(found).join(" → ")}`);
  }
  return found.length > 0 ? 0 : 69;
}

export async function logs(options: Scopes): Promise<number> {
  for (const scope of wantedScopes(options)) {
    const lines = await askService(servicePlaces(scope).socket, "logs");
    if (lines === undefined) continue;
    for (const line of lines) print(line.replace(/^log /, ""));
    return 0;
  }
  throw new FarpoolError("FARPOOL_NOT_FOUND", "no client service runs", {
    hint: "'farpool service start' starts it",
  });
}

/** What a shell, a unit or a container needs to find the shim where the loader's cache does not have it. */
export function environment(shell: "sh" | "fish" | "csh" | "systemd" | "docker"): number {
  const { shimFolder } = findInstallation();
  const lines = {
    sh: `export LD_LIBRARY_PATH="${shimFolder}\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"`,
    fish: `set -gx LD_LIBRARY_PATH "${shimFolder}" $LD_LIBRARY_PATH`,
    csh: `if ($?LD_LIBRARY_PATH) then\nsetenv LD_LIBRARY_PATH "${shimFolder}:$LD_LIBRARY_PATH"\nelse\nsetenv LD_LIBRARY_PATH "${shimFolder}"\nendif`,
    systemd: `Environment=LD_LIBRARY_PATH=${shimFolder}`,
    docker: `--volume ${shimFolder}:${shimFolder}:ro --volume /run/farpool-client:/run/farpool-client --env LD_LIBRARY_PATH=${shimFolder}`,
  } as const;
  print(lines[shell]);
  if (shell === "sh")
    say("hint: eval \"$(farpool service env)\"; after 'service install --system' nothing is needed");
  return 0;
}

function wantedScopes({ isSystem, isUser }: Scopes): readonly ServiceScope[] {
  // One that was named is the only one that programs ask.
  if (isSystem === isUser)
    return process.env["FARPOOL_BROKER"] === undefined ? ["user", "system"] : ["system"];
  return isSystem ? ["system"] : ["user"];
}

function order(found: readonly Status[]): readonly string[] {
  const mine = found
    .filter(({ you }) => you.refusal === null)
    .map(({ scope }) => (scope === "user" ? "your own service" : "this machine's service"));
  const session = process.env["FARPOOL_SESSION"] === undefined ? [] : ["the session of this shell"];
  return [...session, ...mine, "a local driver", "no device"];
}

function describe(status: Status): string {
  const { session, processes, you } = status;
  const whose = status.scope === "user" ? "your own service" : "this machine's service";
  const idle =
    status.idleTimeout === null ? "" : `, given back after ${status.idleTimeout} without a program`;
  return [
    `${whose}: ${status.state}: ${status.sentence}`,
    `  for ${status.allowed}; ${status.hold === "always" ? "held always" : `on demand${idle}`} (${status.configuration})`,
    ...(session === null
      ? []
      : [
          `  ${session.gpus.map(({ name, memoryTotalBytes, memoryLimitBytes }) => `${name}, ${formatBytes(memoryLimitBytes ?? memoryTotalBytes)}`).join("; ")}`,
        ]),
    `  ${counted(processes.length, "program")}${processes.length === 0 ? "" : `: ${processes.map(({ pid, program, uid }) => `${program} (pid ${pid}, user ${uid})`).join(", ")}`}; ${status.waiting} waiting`,
    ...(you.refusal === null ? [] : [`  not for you: ${you.refusal}`]),
  ].join("\n");
}
