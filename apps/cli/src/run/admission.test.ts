import { createHash, randomUUID } from "node:crypto";
import {
  connectionIdSchema,
  serverIdSchema,
  sessionIdSchema,
  type ServerId,
  type SessionConnection,
  type SessionGrant,
} from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { readClaims, signSessionGrant } from "@farpool/identity/grants";
import { expect, onTestFinished, test, vi } from "vitest";
import { createAdmissions, type AdmissionOptions, type Admissions } from "./admission.ts";
import { RefusedError } from "./answer.ts";

const sessionId = sessionIdSchema.parse("s-7f3k2m9q");
const serverId = serverIdSchema.parse(randomUUID());
const further = serverIdSchema.parse(randomUUID());
const SECRET = "5a".repeat(32);
const clientKey = generateSigningKey();
const managerKey = generateSigningKey();
const spki = Buffer.from(`302a300506032b6570032100${"00".repeat(32)}`, "hex");
const key = spki.toString("base64url");
const peer = { pid: 1, uid: 0, start: 1 };

async function grantFor(server: ServerId, validSeconds: number): Promise<SessionGrant> {
  const claims = { sessionId, serverId: server, client: clientKey.thumbprint, poolId: randomUUID() };
  return { grant: await signSessionGrant(managerKey, { ...claims, signedAt: 0 }), validSeconds };
}

/** Of a session whose grants have ended. */
async function start(
  changes: Pick<AdmissionOptions, "renewGrant" | "known">,
  furtherServers: SessionConnection["furtherServers"] = [],
): Promise<Admissions> {
  const grant = await grantFor(serverId, 0);
  const admissions = createAdmissions({
    ...{ sessionId, clientKey },
    connection: {
      ...{ secret: SECRET, endpoints: [], serverId, graceSeconds: 1, authorities: [] },
      ...{ grant, furtherServers },
    },
    ...changes,
  });
  onTestFinished(() => admissions.stop());
  return admissions;
}

const spread = async (): Promise<SessionConnection["furtherServers"]> => [
  {
    serverId: further,
    endpoints: [{ kind: "unix", path: "/run/further.sock" }],
    grant: await grantFor(further, 0),
  },
];

test("who is refused because the session's grant has ended is not counted as in the session", async () => {
  const admissions = await start({ renewGrant: () => Promise.reject(new Error("nobody answers")) });

  const admitted = admissions.admit({ key, program: "test", connection: null, server: null, peer });

  await expect(admitted).rejects.toThrow(RefusedError);
  expect(admissions.processes()).toEqual([]);
});

test("one server's grant that cannot be renewed keeps nobody from the others", async () => {
  const renewGrant = vi.fn<AdmissionOptions["renewGrant"]>((server) =>
    server === further ? grantFor(server, 900) : Promise.reject(new Error("nobody answers")),
  );
  const admissions = await start({ renewGrant }, await spread());
  const ask = (server: string) => admissions.admit({ key, program: "test", connection: null, server, peer });

  await expect(ask("0")).rejects.toThrow("could not be renewed: nobody answers");
  const { connectionId, lines } = await ask("1");

  const grant = lines.find((line) => line.startsWith("grant "))?.slice("grant ".length) ?? "";
  expect(readClaims(String(readClaims(grant)["session"]))).toMatchObject({ aud: further });
  expect(admissions.processes()).toMatchObject([{ connectionId, server: 1 }]);
  expect(admissions.forget(connectionId)).toEqual({
    secret: SECRET,
    endpoints: [{ kind: "unix", path: "/run/further.sock" }],
  });
  expect(admissions.forget(connectionId)).toBeUndefined();
});

test("whom an earlier broker has let in to a further server resumes there", async () => {
  const connectionId = connectionIdSchema.parse("f".repeat(32));
  const keyHash = createHash("sha256").update(spki).digest("base64url");
  const known = [{ connectionId, server: 1, peer, keyHash, program: "test" }];
  const renewGrant = (server: ServerId) => grantFor(server, 900);
  const request = { key, program: "test", connection: connectionId, server: null, peer };

  const admissions = await start({ renewGrant, known }, await spread());
  expect((await admissions.admit(request)).lines).toContain(`server ${further}`);

  // A session has as many servers as ever; a file may say anything.
  const smaller = await start({ renewGrant, known });
  await expect(smaller.admit(request)).rejects.toThrow("asked for server '1'");
});
