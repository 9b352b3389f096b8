import { setTimeout as sleep } from "node:timers/promises";
import { startTestServer } from "@farpool/testkit";
import { expect, test } from "vitest";
import { listenForChanges } from "./changes.ts";

test("a database that is away is asked again and again by one attempt at a time, not by ever more", async () => {
  const server = await startTestServer({ isToBeStopped: true });
  const errors: unknown[] = [];
  const changes = await listenForChanges(await server.createDatabase(), (error) => errors.push(error));
  await server.stop();
  await sleep(4_000);
  await changes.close();
  // Eight attempts fit into this time; each used to start two.
  expect(errors.length).toBeGreaterThan(2);
  expect(errors.length).toBeLessThan(14);
});
