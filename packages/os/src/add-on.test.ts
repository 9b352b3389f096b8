import { join } from "node:path";
import { findInstallation } from "@farpool/layout";
import { startProgram, temporaryFolder } from "@farpool/testkit";
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { addOn, load } from "./add-on.ts";

test("is loaded once, from the installation", () => {
  expect(addOn()).toBe(addOn());
  expect(load(findInstallation().addOn)).toBe(addOn());
});

test("that is missing or broken is told with its path and what to do", () => {
  using folder = temporaryFolder();
  const broken = join(folder.path, "broken.node");
  writeFileSync(broken, "not a library");

  for (const path of [join(folder.path, "missing.node"), broken]) {
    expect(() => load(path)).toThrow(
      expect.objectContaining({
        code: "FARPOOL_UNAVAILABLE",
        message: expect.stringContaining(`the add-on ${path} cannot be loaded: `) as unknown,
        hint: expect.stringContaining("npm run build") as unknown,
      }),
    );
  }
});

test("runs on the oldest C library that a client may have", async () => {
  const read = await startProgram(["readelf", "--wide", "-V", "-d", findInstallation().addOn], process.env)
    .ended;

  const versions = [...read.stdout.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
  expect(read.status).toBe(0);
  expect(Math.max(...versions)).toBeLessThanOrEqual(28);
  expect(read.stdout).toContain("NODELETE");
});
