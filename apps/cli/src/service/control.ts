import { existsSync } from "node:fs";
import { FarpoolError } from "@farpool/contract";
import { findInstallation, servicePlaces } from "@farpool/layout";
import { print, printJson, say } from "../core/output.ts";
import { askService } from "./ask.ts";
import { systemctl } from "./install.ts";
import { libraryPathLine } from "./profile.ts";
import { forShell, forUnit } from "./quoting.ts";
import { requireRoot, scopeOf, wantedScopes, type Scopes } from "./scopes.ts";
import { SERVICE_UNIT, SOCKET_UNIT } from "./systemd.ts";

export async function control(verb: "start" | "stop" | "restart", options: Scopes): Promise<number> {
  const scope = scopeOf(options);
  if (verb !== "restart") requireRoot(scope, verb);
  const places = servicePlaces(scope);
  if (!existsSync(places.configuration)) {
    const isMachines = scope === "user" && existsSync(servicePlaces("system").configuration);
    const whose = scope === "user" ? "client service of your own" : "client service";
    const hint = isMachines
      ? `'farpool service ${verb} --system' is for this machine's`
      : `'farpool service install --${scope}' makes one`;
    const message = `there is no ${whose}: ${places.configuration} is missing`;
    throw new FarpoolError("FARPOOL_NOT_FOUND", message, { hint });
  }
  // Its socket stays over a restart, so programs wait and do not fail.
  await systemctl(scope, verb === "restart" ? [verb, SERVICE_UNIT] : [verb, SOCKET_UNIT, SERVICE_UNIT]);
  return 0;
}

export async function logs(options: Scopes & { readonly isJson: boolean }): Promise<number> {
  for (const scope of wantedScopes(options)) {
    const lines = await askService(servicePlaces(scope).socket, "logs");
    if (lines === undefined) continue;
    const said = lines.map((line) => line.replace(/^log /, ""));
    if (options.isJson) printJson({ lines: said });
    else for (const line of said) print(line);
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
    sh: libraryPathLine(shimFolder),
    fish: `set -gx LD_LIBRARY_PATH "${shimFolder}" $LD_LIBRARY_PATH`,
    csh: `if ($?LD_LIBRARY_PATH) then\nsetenv LD_LIBRARY_PATH "${shimFolder}:$LD_LIBRARY_PATH"\nelse\nsetenv LD_LIBRARY_PATH "${shimFolder}"\nendif`,
    systemd: `Environment=${forUnit(`LD_LIBRARY_PATH=${shimFolder}`)}`,
    docker: [
      ...["--volume", forShell(`${shimFolder}:${shimFolder}:ro`)],
      ...["--volume", "/run/farpool-client:/run/farpool-client"],
      ...["--env", forShell(`LD_LIBRARY_PATH=${shimFolder}`)],
    ].join(" "),
  } as const;
  print(lines[shell]);
  if (shell === "sh")
    say("hint: eval \"$(farpool service env)\"; after 'service install --system' nothing is needed");
  return 0;
}
