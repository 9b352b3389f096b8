import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { ServiceScope } from "@farpool/layout";
import { say } from "../core/output.ts";
import { forShell } from "./quoting.ts";
import type { InstalledFile } from "./units.ts";

const MARK = "# farpool client service";

/** What login shells read, by which programs find the shim where the loader's cache does not have it. */
export function profileFile(scope: ServiceScope, shimFolder: string, home = homedir()): InstalledFile {
  const path = scope === "system" ? "/etc/profile.d/farpool-client.sh" : ownFile(home);
  return {
    path,
    text: `# Written by 'farpool service install --profile'.\n${libraryPathLine(shimFolder)}\n`,
  };
}

/** For sh: puts the folder before what is there. */
export function libraryPathLine(folder: string): string {
  return `export LD_LIBRARY_PATH=${forShell(folder)}"\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"`;
}

const ownFile = (home: string): string => join(home, ".config/farpool/client-service.sh");

/** A person's `.profile` reads the file from then on. */
export function addProfileLine(home = homedir()): void {
  const path = join(home, ".profile");
  const text = existsSync(path) ? readFileSync(path, "utf8") : "";
  const file = forShell(ownFile(home));
  const line = `[ ! -r ${file} ] || . ${file} ${MARK}`;
  if (!text.includes(MARK))
    // Appended: a full disk costs her nothing of what is hers.
    appendFileSync(path, `${text === "" || text.endsWith("\n") ? "" : "\n"}${line}\n`);
  const rival = [".bash_profile", ".bash_login"].find((name) => existsSync(join(home, name)));
  if (rival !== undefined)
    say(`note: bash reads ~/${rival} in place of ~/.profile; what it lacks is: ${line}`);
}

export function removeProfileLine(home = homedir()): void {
  const path = join(home, ".profile");
  if (!existsSync(path)) return;
  const lines = readFileSync(path, "utf8").split("\n");
  const left = lines.filter((line) => !line.endsWith(MARK));
  if (left.length !== lines.length) writeFileSync(path, left.join("\n"));
}
