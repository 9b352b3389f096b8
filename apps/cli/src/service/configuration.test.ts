import type { FarpoolError } from "@farpool/contract";
import { expect, test } from "vitest";
import { formatConfiguration, formatIdleTimeout, parseConfiguration } from "./configuration.ts";

const read = (text: string) => parseConfiguration(text, "/etc/x.yaml");

test("what install writes is what the service reads", () => {
  const text = formatConfiguration({
    gpus: 2,
    memory: "4GiB",
    hold: "on-demand",
    "idle-timeout": "10m",
    "allow-users": ["dev1"],
  });

  expect(read(text)).toMatchObject({
    count: 2,
    size: { kind: "memory", memoryMib: 4096 },
    hold: "on-demand",
    idleTimeoutMs: 600_000,
    idleAction: "keep",
    allowUsers: ["dev1"],
    allowGroups: [],
    localGpu: "pool-first",
  });
});

test("an idle timeout is written as it was said, to the millisecond", () => {
  const written = [0, 1_500, 90_000, 3_601_000, 90_000_000, 100_000_000].map(formatIdleTimeout);

  expect(written).toEqual(["never", "1.5s", "1min30s", "3601s", "1d1h", "100000s"]);
  expect(written.map((text) => read(`idle-timeout: ${text}`).idleTimeoutMs)).toEqual([
    ...[null, 1_500, 90_000, 3_601_000, 90_000_000, 100_000_000],
  ]);
});

test("an empty file asks for what the manager says", () => {
  expect(read("")).toMatchObject({ count: undefined, size: undefined, hold: undefined, filters: [] });
});

test("mistakes name file, line and value, and end with exit code 64", () => {
  for (const [text, sentence] of [
    ["gpus: many", "/etc/x.yaml: gpus:"],
    ["hold: perhaps", 'expected one of "always"|"on-demand", not "perhaps"'],
    ["gpu: 1", '/etc/x.yaml: Unrecognized key: "gpu"'],
    ["share: 0.5\nmemory: 4GiB", "both say how large"],
    ["memory: much", "-m takes an amount of memory from 1 MiB, not 'much'"],
    ["idle-timeout: soon", "'soon' is not a duration"],
    ["filters: ['gpu.size>1']", "there is no 'gpu.size'"],
    ["allow-users: [':']", "allow-users.0: this is no name of an account"],
    ["gpus: [", "/etc/x.yaml: "],
  ] as const) {
    expect(() => read(text)).toThrow(
      expect.objectContaining({
        code: "FARPOOL_USAGE",
        message: expect.stringContaining(sentence) as unknown,
      }) as FarpoolError,
    );
  }
});
