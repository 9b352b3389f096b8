import { copyFileSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { findDriver, foldersOfPath, loaderFolders } from "./local-driver.ts";

test("the shim, a link to it and a copy of it are no driver; a library of another content is one", () => {
  using folder = temporaryFolder();
  const library = (name: string): string => {
    mkdirSync(join(folder.path, name));
    return join(folder.path, name, "libcuda.so.1");
  };
  const shim = library("shim");
  writeFileSync(shim, "ours".repeat(1_000));
  linkSync(shim, library("linked"));
  copyFileSync(shim, library("copied"));
  symlinkSync("nowhere", library("dangling"));
  const driver = library("driver");
  writeFileSync(driver, "not".repeat(1_000));
  const folders = ["empty", "linked", "copied", "dangling"].map((name) => join(folder.path, name));

  expect(findDriver(folders, shim)).toBeUndefined();
  expect(findDriver([...folders, join(folder.path, "driver")], shim)).toBe(driver);
});

test("the loader's files are read in its order, comments and inclusions are no folders, ours may be left out", () => {
  using folder = temporaryFolder();
  const [etc, ours] = [folder.path, join(folder.path, "ld.so.conf.d/00-farpool.conf")];
  mkdirSync(join(etc, "ld.so.conf.d"));
  writeFileSync(ours, "/opt/farpool/lib/shim\n");
  writeFileSync(join(etc, "ld.so.conf.d/zz.conf"), "# /no\n/opt/last # as ever\n");
  writeFileSync(join(etc, "ld.so.conf.d/readme"), "/not/a/configuration\n");
  writeFileSync(join(etc, "ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n/opt/main\n");

  expect(loaderFolders({ etc }).slice(0, 3)).toEqual(["/opt/farpool/lib/shim", "/opt/last", "/opt/main"]);
  expect(loaderFolders({ etc, without: ours }).slice(0, 2)).toEqual(["/opt/last", "/opt/main"]);
  expect(loaderFolders({ etc })).toContain("/usr/lib/wsl/lib");
});

test("of a search path only whole paths count", () => {
  expect(foldersOfPath("/a::b:/c")).toEqual(["/a", "/c"]);
  expect(foldersOfPath(undefined)).toEqual([]);
});
