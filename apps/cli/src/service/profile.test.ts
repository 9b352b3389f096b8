import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { addProfileLine, libraryPathLine, profileFile, removeProfileLine } from "./profile.ts";

test("a login shell has the folder first, whatever its name is, and keeps what it had", () => {
  const folder = `/opt/it's "my" $HOME/shim`;
  const seen = (before: string): string =>
    execFileSync("sh", ["-c", `${libraryPathLine(folder)}\nprintf %s "$LD_LIBRARY_PATH"`], {
      encoding: "utf8",
      env: { LD_LIBRARY_PATH: before },
    });

  expect(seen("")).toBe(folder);
  expect(seen("/usr/local/lib")).toBe(`${folder}:/usr/local/lib`);
});

test("the line in .profile is added once, works, and is all that is removed again", () => {
  using folder = temporaryFolder();
  const home = join(folder.path, "my home");
  const file = profileFile("user", "/opt/farpool/shim", home);
  mkdirSync(dirname(file.path), { recursive: true });
  writeFileSync(file.path, file.text);
  const profile = join(home, ".profile");
  writeFileSync(profile, "umask 022");

  addProfileLine(home);
  addProfileLine(home);

  const shown = execFileSync("sh", ["-c", `. "${profile}"; printf %s "$LD_LIBRARY_PATH"`], {
    encoding: "utf8",
    env: {},
  });
  expect(shown).toBe("/opt/farpool/shim");
  expect(readFileSync(profile, "utf8").match(/client-service\.sh/g)).toHaveLength(2);
  removeProfileLine(home);
  expect(readFileSync(profile, "utf8")).toBe("umask 022\n");
});
