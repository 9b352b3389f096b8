import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { connectionIdSchema, sessionIdSchema } from "@farpool/contract";
import { processStart } from "@farpool/os";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { isAlive } from "./held-session.ts";
import { openState, type ServiceState } from "./state-file.ts";

const nothing = (): void => undefined;

test("after a crash of the machine the session is found again, and no process of another boot in it", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "state.json");
  const connectionId = connectionIdSchema.parse("0".repeat(32));
  const state: ServiceState = {
    bootId: "another",
    sessionId: sessionIdSchema.parse("s-7f3k2m9q"),
    processes: [
      {
        connectionId,
        server: 0,
        keyHash: "",
        uid: 0,
        program: "test",
        pid: process.pid,
        start: processStart(process.pid),
      },
    ],
    identity: null,
  };
  writeFileSync(path, JSON.stringify(state));

  const { current } = openState(path, nothing);

  expect(current.sessionId).toBe(state.sessionId);
  expect(current.processes.map(isAlive)).toEqual([false]);
  expect(current.bootId).not.toBe("another");
});

test("what was changed is read again, and a file that is not understood is none", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "state.json");
  const sessionId = sessionIdSchema.parse("s-7f3k2m9q");
  openState(path, nothing).change({ sessionId });

  expect(openState(path, nothing).current.sessionId).toBe(sessionId);
  writeFileSync(path, "{");
  expect(openState(path, nothing).current).toMatchObject({ sessionId: null, processes: [] });
});

test("a process that an older service has let in is one of the first server", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "state.json");
  const { current } = openState(path, nothing);
  const process = { connectionId: "0".repeat(32), keyHash: "", uid: 0, program: "test", pid: 1, start: 1 };
  writeFileSync(path, JSON.stringify({ ...current, processes: [process] }));

  expect(openState(path, nothing).current.processes).toEqual([{ ...process, server: 0 }]);
});

test("a state that cannot be written is said once for each change, and holds meanwhile", () => {
  const said: string[] = [];
  const state = openState("/proc/no-such/state.json", (sentence) => said.push(sentence));

  state.change({ sessionId: sessionIdSchema.parse("s-7f3k2m9q") });

  expect(state.current.sessionId).toBe("s-7f3k2m9q");
  expect(said).toEqual([expect.stringContaining("/proc/no-such/state.json")]);
});
