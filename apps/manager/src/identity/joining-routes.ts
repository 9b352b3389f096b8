import type { FastifyInstance } from "fastify";
import { FarpoolError } from "@farpool/contract";
import { serve } from "../http/serve.ts";
import type { MachinePrincipal, Principal } from "../http/principal.ts";
import { dismissMachine } from "./departures.ts";
import { createJoinToken, listJoinTokens, revokeJoinToken, type PublicDoor } from "./join-tokens.ts";
import { joinPool, listMachines, renewMachine, type MachineParts } from "./machines.ts";
import { beginRotation, finishRotation, readAuthorityState } from "./rotation.ts";

const OK = { ok: true } as const;

export interface JoiningParts extends MachineParts {
  readonly door: PublicDoor;
  /** Of this manager's certificate. */
  readonly certificateExpiresAt: () => Date;
}

export function registerJoiningRoutes(app: FastifyInstance, parts: JoiningParts): void {
  const { db } = parts;
  serve(app, "createJoinToken", ({ body }, _, by) => createJoinToken(parts, body, by));
  serve(app, "listJoinTokens", async () => ({ tokens: await listJoinTokens(db) }));
  serve(app, "revokeJoinToken", ({ params }, _, by) => revokeJoinToken(db, params.tokenId, by));
  const state = () => readAuthorityState(parts, parts.certificateExpiresAt());
  serve(app, "authority", () => {
    const { bundle, presented } = parts.identity.authorities();
    return Promise.resolve({ authority: bundle, sha256: presented.hash });
  });
  serve(app, "authorityState", state);
  serve(app, "rotateAuthority", async (_, __, by) => {
    await beginRotation(parts, by);
    return state();
  });
  serve(app, "finishRotation", async ({ body }, _, by) => {
    await finishRotation(parts, body.isForced, by);
    return state();
  });
  serve(app, "joinPool", ({ body }, _, { peer }) => joinPool(parts, body, peer));
  serve(app, "renewMachine", (_, __, by) => renewMachine(parts, requireMachine(by), by.peer));
  serve(app, "leavePool", async (_, __, by) => {
    await dismissMachine(db, requireMachine(by).id, { by, reason: null, isLeaving: true });
    return OK;
  });
  serve(app, "listMachines", async () => ({ machines: await listMachines(db) }));
  serve(app, "revokeMachine", ({ params, body }, _, by) =>
    dismissMachine(db, params.machineId, { by, reason: body.reason, isLeaving: false }),
  );
}

/** An administrator may send anything, but has no certificate to renew. */
function requireMachine({ machine, description }: Principal): MachinePrincipal {
  if (machine !== null) return machine;
  throw new FarpoolError(
    "FARPOOL_NOT_PERMITTED",
    `a machine asks for this with its certificate; ${description} has none`,
  );
}
