import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { hasMadeLingering, noteLingering, removeFiles, writeFiles } from "./installed-files.ts";

test("a second install replaces the first: what is not asked for any more goes", () => {
  using folder = temporaryFolder();
  const [record, file, policy] = ["state/record.json", "etc/service.yaml", "etc/rules.d/policy"].map((name) =>
    join(folder.path, name),
  ) as [string, string, string];

  writeFiles(record, [
    { path: file, text: "one\n" },
    { path: policy, text: "group ops\n" },
  ]);
  noteLingering(record);
  writeFiles(record, [{ path: file, text: "two\n" }]);

  expect(readFileSync(file, "utf8")).toBe("two\n");
  expect(existsSync(policy)).toBe(false);
  expect(hasMadeLingering(record)).toBe(true);
});

test("what an install that failed has made is removed as well, and what was there before stays", () => {
  using folder = temporaryFolder();
  const at = (name: string): string => join(folder.path, name);
  mkdirSync(at("etc"));
  writeFileSync(at("etc/others"), "");
  writeFileSync(at("blocked"), "this is no folder");
  mkdirSync(at("state"));

  expect(() =>
    writeFiles(at("state/record.json"), [
      { path: at("etc/farpool/service.yaml"), text: "" },
      { path: at("blocked/unit"), text: "" },
    ]),
  ).toThrow(`${at("blocked/unit")} cannot be written (`);
  expect(existsSync(at("etc/farpool/service.yaml"))).toBe(true);
  removeFiles(at("state/record.json"), []);

  expect(readdirSync(at("etc"))).toEqual(["others"]);
  expect(readdirSync(at("state"))).toEqual([]);
  expect(readFileSync(at("blocked"), "utf8")).toBe("this is no folder");
});
