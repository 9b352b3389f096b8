import type { FarpoolError } from "@farpool/contract";
import { expect, test, vi } from "vitest";
import { setVerbosity } from "../core/output.ts";
import { chooseLocalGpu } from "./local-gpu.ts";

setVerbosity("quiet");
const driver = "/usr/lib64/libcuda.so.1";
const never = (): never => {
  throw new Error("nothing was to be asked");
};
const answers = (...texts: readonly string[]) => {
  const left = [...texts];
  return vi.fn<() => Promise<string>>(() => Promise.resolve(left.shift() ?? ""));
};

test("what was said counts, and where there is no driver nothing is asked", async () => {
  const system = { scope: "system", ask: never } as const;

  expect(await chooseLocalGpu({ ...system, wanted: "off", driver })).toBe("off");
  expect(await chooseLocalGpu({ ...system, wanted: undefined, driver: undefined })).toBeUndefined();
});

test("without a terminal the machine's own GPUs come first", async () => {
  const choice = chooseLocalGpu({ scope: "system", wanted: undefined, driver, ask: undefined });

  expect(await choice).toBe("first");
});

test("on a terminal it is asked until the answer is one, and an empty answer is the default", async () => {
  const situation = { scope: "system", wanted: undefined, driver } as const;
  const ask = answers("maybe", " pool-first ");

  expect(await chooseLocalGpu({ ...situation, ask })).toBe("pool-first");
  expect(ask).toHaveBeenCalledTimes(2);
  expect(await chooseLocalGpu({ ...situation, ask: answers("") })).toBe("first");
  await expect(chooseLocalGpu({ ...situation, ask: answers("a", "b", "c", "off") })).rejects.toThrow(
    "nothing was changed",
  );
});

test("a person's own service cannot decide it, as programs read the machine's file only", async () => {
  const own = { scope: "user", driver, ask: never } as const;

  expect(await chooseLocalGpu({ ...own, wanted: undefined })).toBeUndefined();
  await expect(chooseLocalGpu({ ...own, wanted: "first" })).rejects.toThrow(
    expect.objectContaining({
      code: "FARPOOL_USAGE",
      hint: expect.stringContaining("FARPOOL=local") as unknown,
    }) as FarpoolError,
  );
});
