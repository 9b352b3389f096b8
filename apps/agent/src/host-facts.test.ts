import { statfsSync, writeFileSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { hostFactsSchema } from "@farpool/contract";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { readHostFacts } from "./host-facts.ts";

test("an agent tells of its machine what the machine says itself", () => {
  using folder = temporaryFolder();
  const file = join(folder.path, "worker-identity.pem");
  const facts = readHostFacts(file);
  expect(hostFactsSchema.parse(facts)).toEqual(facts);
  expect(facts.memoryTotalBytes).toBe(totalmem());
  const { blocks, bsize } = statfsSync(folder.path);
  expect(facts.stateDisk?.totalBytes).toBe(blocks * bsize);
  expect(facts.interfaces.map(({ name }) => name)).not.toContain("lo");
  expect(facts.openFilesLimit === null || facts.openFilesLimit > 0).toBe(true);
  // There is no certificate yet, or something else lies there.
  expect(facts.workerCertificateExpiresAt).toBeNull();
  writeFileSync(file, "nonsense");
  expect(readHostFacts(file).workerCertificateExpiresAt).toBeNull();
});
