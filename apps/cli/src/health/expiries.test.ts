import { expect, test } from "vitest";
import { authorityExpiries, checkExpiries, checkExpiry, type Expiry } from "./expiries.ts";

const NOW = Date.parse("2026-11-30T12:00:00Z");
const DAY = 86_400_000;
const at = (days: number): string => new Date(NOW + days * DAY).toISOString();

const state = (days: number) => ({
  authorities: [{ sha256: "x", createdAt: at(-1), expiresAt: at(days), role: "presented" as const }],
  rotation: null,
  managerCertificateExpiresAt: at(30),
});

test("an authority that ends within a year is a warning, one that has ended a failure, and the hint makes another", () => {
  const check = (days: number) => authorityExpiries(state(days)).map((each) => checkExpiry(each, NOW))[0];
  expect(check(3_650)).toMatchObject({ result: "pass" });
  expect(check(300)).toMatchObject({ result: "warning", hint: expect.stringContaining("admin ca rotate") });
  expect(check(-1)).toMatchObject({
    result: "fail",
    message: expect.stringContaining("the pool's certificate authority expired 1 d ago"),
  });
});

test("of many that are well the first to end is named, and each that is late has a line of its own", () => {
  const expiry = (number: number, days: number): Expiry => ({
    ...{ name: `server gpu-${number}`, what: `the certificate of the server gpu-${number}`, at: at(days) },
    ...{ lateMs: 10 * DAY, hint: "look at it", isFatal: false },
  });
  const many = Array.from({ length: 40 }, (_, number) => expiry(number, 20 + number));
  const checks = checkExpiries([...many, expiry(41, 5), expiry(42, -2)], NOW);
  expect(checks.map(({ name, result }) => [name, result])).toEqual([
    ["server gpu-41", "warning"],
    ["server gpu-42", "warning"],
    ["certificates", "pass"],
  ]);
  expect(checks.at(-1)?.message).toContain(
    "40 are good; the first to end, the certificate of the server gpu-0,",
  );
  expect(checkExpiries(many.slice(0, 3), NOW)).toHaveLength(3);
});
