import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type FarpoolError, type Session } from "@farpool/contract";
import { startProgram, temporaryFolder } from "@farpool/testkit";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { readReservationFile, writeReservationFile } from "./session-file.ts";

const session = { id: "s-abcdefghij", gpus: [] } as unknown as Session;
let home: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  home = temporaryFolder();
  vi.stubEnv("HOME", home.path);
  vi.stubEnv("BF_ADAPTOR_CONFIG", "");
});
afterEach(() => {
  vi.unstubAllEnvs();
  home[Symbol.dispose]();
});

test("the file of a reservation stays while the pool cannot be told that it is over", async () => {
  const { path } = writeReservationFile(session);
  const main = fileURLToPath(new URL("main.ts", import.meta.url));
  const environment = { PATH: process.env["PATH"], HOME: home.path, FARPOOL_STATE: join(home.path, "state") };

  const { status, stderr } = await startProgram([process.execPath, main, "release_gpus"], environment).ended;

  expect({ status, stderr }).toMatchObject({ status: 69, stderr: expect.stringContaining("no pool") });
  expect(existsSync(path)).toBe(true);
});

test("who cannot be given the file is told which session to give back", () => {
  writeFileSync(join(home.path, ".bitfusion"), "this is no folder");

  expect(() => writeReservationFile(session)).toThrow(
    expect.objectContaining({ hint: `'farpool release ${session.id}' gives them back` }) as FarpoolError,
  );
});

test("an empty BF_ADAPTOR_CONFIG is as none, and a file that cannot be read is told with why", () => {
  const { path } = writeReservationFile(session);

  expect(readReservationFile(undefined)).toEqual({ path, session: session.id });
  expect(JSON.parse(readFileSync(path, "utf8"))).toEqual({ session: session.id, gpus: [] });
  mkdirSync(join(home.path, "folder"));
  expect(() => readReservationFile(join(home.path, "folder"))).toThrow("cannot be read (EISDIR)");
});
