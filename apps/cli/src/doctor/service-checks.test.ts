import { chmodSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { dirname, join } from "node:path";
import { FarpoolError, VERSION } from "@farpool/contract";
import { servicePlaces } from "@farpool/layout";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test, vi } from "vitest";
import type { ServiceStatus } from "../service/ask.ts";
import {
  checkAnswer,
  checkEnabled,
  checkLoaderCache,
  checkLoaderFile,
  checkServices,
  checkShell,
  checkSocket,
} from "./service-checks.ts";

/** A folder with a libcuda.so.1 of some content, and what lies beside it. */
function libraryIn(root: string, name: string, content: string): string {
  const path = join(root, name, "libcuda.so.1");
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

test("the loader's file has to be there, to lead to the shim, and to come before others that lead to a libcuda", () => {
  using folder = temporaryFolder();
  const shim = libraryIn(folder.path, "shim", "ours");
  const driver = libraryIn(folder.path, "driver", "a driver");
  const etc = join(folder.path, "ld.so.conf.d");
  const file = join(etc, "00-farpool.conf");
  mkdirSync(etc);
  const write = (name: string, text: string): void => writeFileSync(join(etc, name), text);

  expect(checkLoaderFile(file, shim)).toMatchObject({
    result: "fail",
    message: `${file} is missing: programs find no libcuda.so.1 of the service`,
  });
  write("00-farpool.conf", `${folder.path}/nothing\n`);
  expect(checkLoaderFile(file, shim)).toMatchObject({ result: "fail" });
  write("00-farpool.conf", `${dirname(driver)}\n`);
  expect(checkLoaderFile(file, shim)).toMatchObject({ result: "warning" });
  write("00-farpool.conf", `${dirname(shim)}\n`);
  write("zz-driver.conf", `${dirname(driver)}\n`);
  write("00-a.conf", "/nowhere\n");
  expect(checkLoaderFile(file, shim)).toMatchObject({ result: "pass" });
  write("00-driver.conf", `${dirname(driver)}\n`);
  expect(checkLoaderFile(file, shim)).toMatchObject({
    result: "fail",
    message: `${etc}/00-driver.conf comes before ${file} and leads to ${driver}`,
  });
});

test("the loader's cache has to have the shim, and first", () => {
  using folder = temporaryFolder();
  const shim = libraryIn(folder.path, "shim", "ours");
  const driver = libraryIn(folder.path, "driver", "a driver");

  expect(checkLoaderCache([shim, driver], shim).result).toBe("pass");
  expect(checkLoaderCache([driver], shim)).toMatchObject({
    result: "fail",
    message: `the loader's cache does not have ${shim}`,
  });
  expect(checkLoaderCache([driver, shim], shim)).toMatchObject({
    result: "fail",
    message: `the loader's cache has ${driver} before ${shim}`,
  });
});

test("for a person's own service her shell has to lead to the shim", () => {
  using folder = temporaryFolder();
  const shim = libraryIn(folder.path, "shim", "ours");
  const driver = libraryIn(folder.path, "driver", "a driver");

  expect(checkShell([dirname(shim)], [driver], shim).result).toBe("pass");
  expect(checkShell([], [driver], shim)).toMatchObject({
    result: "warning",
    hint: expect.stringContaining("farpool service env") as unknown,
  });
});

test("units that are not enabled, or not there, are told with what to do", () => {
  expect(checkEnabled("system", ["enabled", "enabled"]).result).toBe("pass");
  expect(checkEnabled("user", ["enabled", "disabled"])).toMatchObject({
    result: "warning",
    message: expect.stringContaining("farpool-client.service is disabled") as unknown,
    hint: "'systemctl --user enable --now farpool-client.socket farpool-client.service'",
  });
  expect(checkEnabled("system", ["not-found", "not-found"]).result).toBe("fail");
  expect(checkEnabled("system", undefined).result).toBe("warning");
});

async function listen(path: string, mode: number): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  chmodSync(path, mode);
  return server;
}

test("a socket is missing, another user's, closed, deserted, or it listens", async () => {
  using folder = temporaryFolder();
  const us = process.getuid?.() ?? 0;
  const places = (name: string, scope: "system" | "user" = "system") => ({
    ...servicePlaces(scope),
    socket: join(folder.path, name),
  });
  const servers = await Promise.all([
    listen(places("open").socket, 0o666),
    listen(places("closed").socket, 0o600),
  ]);
  writeFileSync(places("file").socket, "");
  const deserted = await listen(places("before").socket, 0o666);
  renameSync(places("before").socket, places("deserted").socket);
  deserted.close();

  expect(await checkSocket(places("missing"), us)).toMatchObject({
    result: "fail",
    message: `${folder.path}/missing is missing`,
  });
  expect(await checkSocket(places("file"), us)).toMatchObject({
    result: "fail",
    message: `${folder.path}/file is no socket`,
  });
  expect(await checkSocket(places("open"), us + 1)).toMatchObject({
    result: "fail",
    message: `${folder.path}/open belongs to user ${us}, expected user ${us + 1}: programs do not trust it`,
  });
  expect(await checkSocket(places("closed"), us)).toMatchObject({
    result: "fail",
    message: expect.stringContaining("mode 600, expected 666") as unknown,
  });
  expect((await checkSocket(places("closed", "user"), us)).result).toBe("pass");
  expect((await checkSocket(places("open"), us)).result).toBe("pass");
  expect(await checkSocket(places("deserted"), us)).toMatchObject({
    result: "fail",
    message: `nobody listens on ${folder.path}/deserted (ECONNREFUSED)`,
  });
  for (const server of servers) server.close();
});

test("what the service says decides: refused is a failure, not for this user a warning", () => {
  const told: ServiceStatus = {
    ...{ version: VERSION, scope: "system", state: "idle", sentence: "no GPU is held", waiting: 0 },
    ...{ hold: "on-demand", idleTimeout: null, allowed: "all", configuration: "/etc/x", session: null },
    ...{ processes: [], you: { uid: 1, refusal: null } },
  };
  const results = (changes: Partial<ServiceStatus>) =>
    checkAnswer("system", { scope: "system", status: { ...told, ...changes } }).map(
      ({ name, result }) => `${name}: ${result}`,
    );

  expect(checkAnswer("system", undefined)).toEqual([]);
  expect(results({})).toEqual(["service: pass"]);
  expect(results({ state: "waiting" })).toEqual(["service: pass"]);
  expect(results({ state: "refused" })).toEqual(["service: fail"]);
  expect(results({ you: { uid: 1, refusal: "not you" } })).toEqual(["service: warning"]);
  expect(results({ version: "0.0.1" })).toEqual(["service version: warning", "service: pass"]);
  const trouble = new FarpoolError("FARPOOL_UNAVAILABLE", "no answer", { hint: null });
  expect(checkAnswer("user", { scope: "user", status: undefined, trouble })).toMatchObject([
    {
      name: "own service",
      result: "fail",
      hint: "'systemctl --user status farpool-client.service' tells why",
    },
  ]);
});

test("only a service that is installed is looked at", async () => {
  using folder = temporaryFolder();
  vi.stubEnv("XDG_CONFIG_HOME", folder.path);
  const shimFolder = dirname(libraryIn(folder.path, "shim", "ours"));
  const own = async () =>
    (await checkServices({ shimFolder })).map(({ name }) => name).filter((name) => name.startsWith("own "));

  expect(await own()).toEqual([]);
  mkdirSync(join(folder.path, "farpool"));
  writeFileSync(join(folder.path, "farpool/client-service.yaml"), "gpus: 1\n");
  expect(await own()).toEqual(["own service loader", "own service units", "own service socket"]);
  vi.unstubAllEnvs();
});
