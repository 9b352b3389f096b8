import { randomUUID } from "node:crypto";
import { serverIdSchema, sessionIdSchema, type SessionGrant } from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { signSessionGrant } from "@farpool/identity/grants";
import { expect, onTestFinished, test } from "vitest";
import { createAdmissions } from "./admission.ts";
import { RefusedError } from "./answer.ts";

test("who is refused because the session's grant has ended is not counted as in the session", async () => {
  const [sessionId, serverId] = [sessionIdSchema.parse("s-7f3k2m9q"), serverIdSchema.parse(randomUUID())];
  const clientKey = generateSigningKey();
  const claims = { sessionId, serverId, client: clientKey.thumbprint, poolId: randomUUID(), signedAt: 0 };
  const ended: SessionGrant = {
    grant: await signSessionGrant(generateSigningKey(), claims),
    validSeconds: 0,
  };
  const admissions = createAdmissions({
    ...{ sessionId, clientKey },
    connection: {
      secret: "5a".repeat(32),
      endpoints: [],
      serverId,
      graceSeconds: 1,
      authorities: [],
      grant: ended,
      furtherServers: [],
    },
    renewGrant: () => Promise.reject(new Error("nobody answers")),
  });
  onTestFinished(() => admissions.stop());
  const key = Buffer.from(`302a300506032b6570032100${"00".repeat(32)}`, "hex").toString("base64url");

  const admitted = admissions.admit({
    ...{ key, program: "test", connection: null, server: null },
    peer: { pid: 1, uid: 0, start: 1 },
  });

  await expect(admitted).rejects.toThrow(RefusedError);
  expect(admissions.processes()).toEqual([]);
});
