import {
  FarpoolError,
  tokenScopeSchema,
  type ApiToken,
  type JoinToken,
  type TokenScope,
} from "@farpool/contract";
import { print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

export interface CreateOptions {
  readonly isServer: boolean;
  readonly isClient: boolean;
  /** A user: a token for programs. */
  readonly api: string | undefined;
  readonly scope: readonly TokenScope[] | undefined;
  readonly name: string | undefined;
  readonly uses: number | undefined;
  readonly expires: number | undefined;
  readonly url: string | undefined;
  readonly isJson: boolean;
}

export function parseScopes(text: string): readonly TokenScope[] {
  return text.split(",").map((word) => {
    const scope = tokenScopeSchema.safeParse(word);
    if (scope.success) return scope.data;
    throw new FarpoolError("FARPOOL_USAGE", `'${word}' is no scope of a token`, {
      hint: `scopes are ${tokenScopeSchema.options.join(", ")}`,
    });
  });
}

export async function create(options: CreateOptions): Promise<number> {
  const kinds = [options.isServer, options.isClient, options.api !== undefined].filter(Boolean).length;
  if (kinds !== 1)
    throw new FarpoolError("FARPOOL_USAGE", "a token is for one thing: --server, --client or --api USER", {
      hint: "farpool admin tokens create --client",
    });
  return options.api === undefined ? createJoin(options) : createApi(options, options.api);
}

async function createJoin(options: CreateOptions): Promise<number> {
  if (options.scope !== undefined)
    throw new FarpoolError("FARPOOL_USAGE", "--scope belongs to --api", { hint: null });
  const role = options.isServer ? "server" : "client";
  const created = await withPool((client) =>
    client.call("createJoinToken", {
      body: {
        role,
        ...(options.uses !== undefined && { uses: options.uses }),
        ...(options.expires !== undefined && { validSeconds: options.expires }),
        url: options.url ?? null,
      },
    }),
  );
  if (options.isJson) {
    printJson(created);
    return 0;
  }
  print(created.join);
  const machines = created.uses === 1 ? `one ${role}` : `${created.uses} ${role}s`;
  say(`for ${machines}, until ${created.expiresAt}: farpool join STRING   (token ${created.id})`);
  return 0;
}

async function createApi(options: CreateOptions, user: string): Promise<number> {
  if (options.uses !== undefined || options.url !== undefined)
    throw new FarpoolError("FARPOOL_USAGE", "--uses and --url belong to --server and --client", {
      hint: null,
    });
  const scopes = [...(options.scope ?? (["read"] as const))];
  const created = await withPool((client) =>
    client.call("createApiToken", {
      body: {
        ...{ user, name: options.name ?? "unnamed", scopes },
        ...(options.expires !== undefined && { validSeconds: options.expires }),
      },
    }),
  );
  if (options.isJson) {
    printJson(created);
    return 0;
  }
  print(created.token);
  say(
    `for ${created.scopes.join(", ")} as ${created.user}, until ${created.expiresAt}; it is not shown again   (token ${created.id})`,
  );
  return 0;
}

export async function list(isJson: boolean): Promise<number> {
  const { join, api } = await withPool(async (client) => ({
    join: (await client.call("listJoinTokens", {})).tokens,
    api: (await client.call("listApiTokens", {})).tokens,
  }));
  if (isJson) printJson({ join, api });
  else if (join.length + api.length === 0) print("no tokens");
  else print(tokenTable(join, api));
  return 0;
}

function tokenTable(join: readonly JoinToken[], api: readonly ApiToken[]): string {
  const now = Date.now();
  const state = (token: JoinToken | ApiToken, isUsedUp = false): string => {
    if (token.revokedAt !== null) return "revoked";
    if (Date.parse(token.expiresAt) < now) return "expired";
    return isUsedUp ? "used up" : "good";
  };
  const rows = [
    ...join.map((token) => [
      token.id,
      `join a ${token.role}`,
      `${token.uses - token.usesLeft} of ${token.uses}`,
      state(token, token.usesLeft === 0),
      token.expiresAt,
      token.createdBy,
    ]),
    ...api.map((token) => [
      token.id,
      token.kind === "api" ? `API: ${token.scopes.join(", ")}` : "sign-in",
      token.lastUsedAt ?? "never",
      state(token),
      token.expiresAt,
      [token.user, token.name].filter((word) => word !== "").join(", "),
    ]),
  ];
  return table(["TOKEN", "FOR", "USED", "STATE", "UNTIL", "WHOSE"], rows);
}

export async function revoke(isJson: boolean, tokenId: string): Promise<number> {
  const revoked = await withPool(async (client): Promise<JoinToken | ApiToken> => {
    const params = { tokenId };
    try {
      return await client.call("revokeJoinToken", { params });
    } catch (error) {
      if (!(error instanceof FarpoolError) || error.code !== "FARPOOL_NOT_FOUND") throw error;
      return client.call("revokeApiToken", { params });
    }
  });
  if (isJson) printJson(revoked);
  else say(`the token ${tokenId} opens nothing any more`);
  return 0;
}
