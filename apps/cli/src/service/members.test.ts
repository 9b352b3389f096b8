import { writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test, vi } from "vitest";
import { createMembers, parseUidMap } from "./members.ts";

const nobody = { pid: process.pid, uid: 65_534, gid: 65_534 };

test("without a list everybody may, with one its accounts, the owner and root", async () => {
  const open = createMembers({ users: [], groups: [], owner: 1_000, isPersonal: false });
  const listed = createMembers({ users: ["daemon", "no-such"], groups: [], owner: 1_000, isPersonal: false });
  await listed.refresh();

  expect(open.refuse(nobody)).toBeUndefined();
  for (const uid of [0, 1, 1_000]) expect(listed.refuse({ ...nobody, uid })).toBeUndefined();
  const refusal = listed.refuse({ pid: 0, uid: 65_534, gid: 65_534 });
  expect(refusal).toContain("user 65534 may not use the GPUs of this machine's client service");
  expect(refusal).toContain("which are for user daemon, user no-such");
});

test("groups are those of the process", async () => {
  const members = createMembers({ users: [], groups: ["daemon"], owner: 1_000, isPersonal: false });
  await members.refresh();

  expect(members.refuse({ pid: 0, uid: 65_534, gid: 1 })).toBeUndefined();
  expect(members.refuse({ pid: 0, uid: 65_534, gid: 2 })).toContain("group daemon");
});

test("a person's own service is hers alone", () => {
  const { uid } = userInfo();
  const members = createMembers({ users: [], groups: [], owner: uid, isPersonal: true });

  expect(members.refuse({ pid: process.pid, uid, gid: 65_534 })).toBeUndefined();
  expect(members.refuse({ pid: 0, uid: 65_534, gid: 0 })).toContain("service install --user");
});

test("who is in an account's container is that account", () => {
  expect(parseUidMap("         0       1000          1\n         1     100000      65536\n")).toEqual([
    1_000,
  ]);
  expect(parseUidMap("         0          0 4294967295\n")).toEqual([]);
  expect(parseUidMap("")).toEqual([]);
});

test("programs that ask at the same time all wait until it is known who may", async () => {
  const members = createMembers({ users: ["daemon"], groups: [], owner: 1_000, isPersonal: false });

  const refusals = await Promise.all(
    Array.from({ length: 3 }, async () => {
      await members.refresh();
      return members.refuse({ pid: 0, uid: 1, gid: 1 });
    }),
  );

  expect(refusals).toEqual([undefined, undefined, undefined]);
});

test("a directory that does not answer takes nobody's right away, one that knows an account no more does", async () => {
  using folder = temporaryFolder();
  const answer = (text: string): void =>
    writeFileSync(join(folder.path, "getent"), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  vi.stubEnv("PATH", `${folder.path}:${process.env["PATH"] ?? ""}`);
  const clock = vi.spyOn(performance, "now");
  const members = createMembers({ users: ["ada"], groups: [], owner: 1_000, isPersonal: false });
  const mayAfter = async (text: string): Promise<boolean> => {
    answer(text);
    clock.mockReturnValue(performance.now() + 31_000);
    await members.refresh();
    return members.refuse({ pid: 0, uid: 4_711, gid: 4_711 }) === undefined;
  };

  expect(await mayAfter("echo ada:x:4711:4711::/:/bin/sh")).toBe(true);
  expect(await mayAfter("exit 1")).toBe(true);
  expect(await mayAfter("exit 2")).toBe(false);
  clock.mockRestore();
  vi.unstubAllEnvs();
});
