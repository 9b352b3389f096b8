import { chmodSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startProgram, temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { readOrCreateClientKey } from "./client-key.ts";

test("the key is made once, for its owner only, and is the same from then on", () => {
  using folder = temporaryFolder();
  const file = join(folder.path, "new/state/client-key.pem");
  const first = readOrCreateClientKey(file);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readOrCreateClientKey(file).thumbprint).toBe(first.thumbprint);
  expect(readdirSync(join(folder.path, "new/state"))).toEqual(["client-key.pem"]);
});

test("several that start at once have one key", async () => {
  using folder = temporaryFolder();
  const module = new URL("./client-key.ts", import.meta.url).href;
  const code = `import(${JSON.stringify(module)}).then((it) => console.log(it.readOrCreateClientKey(${JSON.stringify(
    join(folder.path, "client-key.pem"),
  )}).thumbprint))`;
  const ended = await Promise.all(
    Array.from({ length: 4 }, () => startProgram([process.execPath, "-e", code], process.env).ended),
  );
  expect(new Set(ended.map(({ stdout }) => stdout)).size).toBe(1);
  expect(ended[0]?.stdout).toMatch(/^\S{43}\n$/);
  expect(readdirSync(folder.path)).toEqual(["client-key.pem"]);
});

test("a key that others may read, or that is none, is not used", () => {
  using folder = temporaryFolder();
  const file = join(folder.path, "client-key.pem");
  readOrCreateClientKey(file);
  chmodSync(file, 0o640);
  expect(() => readOrCreateClientKey(file)).toThrow("others may read the key of this client");
  chmodSync(file, 0o600);
  writeFileSync(file, "nonsense");
  expect(() => readOrCreateClientKey(file)).toThrow("is not the private key of a client");
});

test("a folder that cannot be used is named", () => {
  using folder = temporaryFolder();
  writeFileSync(join(folder.path, "file"), "");
  expect(() => readOrCreateClientKey(join(folder.path, "file/client-key.pem"))).toThrow(
    /the key of this client, .*, can be neither read nor made \(E\w+\)/,
  );
});
