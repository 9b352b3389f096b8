import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test, vi } from "vitest";
import { parseRequest } from "../run/broker.ts";
import { openLog } from "./log.ts";

test("what terminals obey is neither logged nor told of programs", () => {
  using folder = temporaryFolder();
  const journal = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const log = openLog(join(folder.path, "service.log"));
  const name = "\u001b]0;owned\u0007python";

  log.write(`process 1 (${name}) of user 7\nhas come`);
  journal.mockRestore();

  expect(log.last(1)[0]).toMatch(/Z process 1 \( \]0;owned python\) of user 7 has come$/);
  expect(parseRequest(`farpool-broker 2\nprogram ${name}\n`).program).toBe(" ]0;owned python");
});
