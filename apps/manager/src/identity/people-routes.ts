import type { FastifyInstance } from "fastify";
import { serve } from "../http/serve.ts";
import { createApiToken, listApiTokens, revokeApiToken } from "./api-tokens.ts";
import type { DoorParts } from "./join-tokens.ts";
import { beginOidc, changeOidc, finishOidc, readOidc } from "./oidc.ts";
import { whoAmI } from "./persons.ts";
import { createSignInCode, signIn, signOut } from "./sign-in.ts";
import { createUser, disableUser, listMappings, listUsers, mapAccount, setPassword } from "./users.ts";

const OK = { ok: true } as const;

export function registerPeopleRoutes(app: FastifyInstance, { db, door }: DoorParts): void {
  serve(app, "signIn", ({ body }, _, who) => signIn(db, body, who));
  serve(app, "oidcSettings", () => readOidc(db));
  serve(app, "changeOidcSettings", ({ body }, _, by) => changeOidc(db, body, by));
  serve(app, "beginOidc", (_, __, who) => beginOidc(db, who));
  serve(app, "finishOidc", ({ body }, _, who) => finishOidc(db, body, who));
  serve(app, "signOut", async (_, __, who) => {
    await signOut(db, who);
    return OK;
  });
  serve(app, "whoAmI", ({ query }, _, who) => whoAmI(db, query.account, who));
  serve(app, "createSignInCode", ({ params, body }, _, by) =>
    createSignInCode({ db, door }, { userName: params.userName, url: body.url }, by),
  );
  serve(app, "createUser", ({ body }, _, by) => createUser(db, body, by));
  serve(app, "listUsers", async () => ({ users: await listUsers(db) }));
  serve(app, "setPassword", ({ params, body }, _, by) =>
    setPassword(db, { name: params.userName, password: body.password }, by),
  );
  serve(app, "disableUser", ({ params, body }, _, by) =>
    disableUser(db, { name: params.userName, isDisabled: body.isDisabled }, by),
  );
  serve(app, "mapAccount", async ({ body }, _, by) => ({ mappings: await mapAccount(db, body, by) }));
  serve(app, "listMappings", async () => ({ mappings: await listMappings(db) }));
  serve(app, "createApiToken", ({ body }, _, by) => createApiToken(db, body, by));
  serve(app, "listApiTokens", async () => ({ tokens: await listApiTokens(db) }));
  serve(app, "revokeApiToken", ({ params }, _, by) => revokeApiToken(db, params.tokenId, by));
}
