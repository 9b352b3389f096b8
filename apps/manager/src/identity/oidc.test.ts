import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { startTestServer, waitFor, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { signInWithBrowser } from "../testing/browser.ts";
import { startPool, type TestPool } from "../testing/pool.ts";

let postgres: TestServer;
let provider: { readonly issuer: string; stop(): Promise<void> };
beforeAll(async () => {
  [postgres, provider] = await Promise.all([startTestServer(), startProvider()]);
});
afterAll(async () => {
  await provider.stop();
  await postgres.stop();
});

async function startProvider() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  await new Promise((resolve) => probe.close(resolve));
  const script = fileURLToPath(new URL("../testing/oidc-provider-process.ts", import.meta.url));
  const child = spawn(process.execPath, [script, String(port)], { stdio: ["ignore", "pipe", "ignore"] });
  await once(child.stdout, "data");
  return {
    issuer: `http://127.0.0.1:${port}`,
    async stop() {
      child.kill();
      await once(child, "exit");
    },
  };
}

const settings = (more: object = {}) => ({
  ...{ issuer: provider.issuer, clientId: "farpool", clientSecret: "a secret of the client" },
  ...more,
});

/** A person follows the link that her terminal shows, and the terminal asks until she has signed in. */
async function signIn({ client }: TestPool, login: string) {
  const started = await client.call("beginOidc", {});
  const body = { flow: started.flow, device: "ws-17" };
  expect((await client.call("finishOidc", { body })).signedIn).toBeNull();
  const link = started.verificationUriComplete ?? started.verificationUri;
  await signInWithBrowser(link, { login, password: "whatever" });
  // A refusal is an answer, too: who asks again is told that there is no such sign-in any more.
  const outcome = await waitFor("the sign-in", async () => {
    const asked = client.call("finishOidc", { body });
    const [result] = await Promise.allSettled([asked]);
    return result.status === "fulfilled" && result.value.signedIn === null ? undefined : { asked };
  });
  const { signedIn } = await outcome.asked;
  if (signedIn === null) throw new Error("nobody signed in");
  return signedIn;
}

test("a person signs in at the provider with a code, and is the user whom the pool knows by that name", async () => {
  const pool = await startPool(postgres, 1);
  const { client } = pool;
  await expect(client.call("beginOidc", {})).rejects.toMatchObject({
    message: "this pool trusts no identity provider",
  });
  const stored = await client.call("changeOidcSettings", { body: { settings: settings() } });
  expect(stored.settings).toEqual({
    ...{ issuer: provider.issuer, clientId: "farpool", hasSecret: true },
    ...{ userClaim: "preferred_username", emailDomain: null, createsUsers: false },
  });
  await client.call("createUser", { body: { name: "alice", role: "administrator" } });
  const signedIn = await signIn(pool, "alice");
  expect(signedIn).toMatchObject({
    user: "alice",
    role: "administrator",
    token: expect.stringMatching(/^farpool-/),
  });
  const { entries } = await client.call("audit", { query: {} });
  expect(entries[0]).toMatchObject({ kind: "sign-in", reason: `alice signed in at ${provider.issuer}` });
  const { tokens } = await client.call("listApiTokens", {});
  expect(tokens).toMatchObject([{ user: "alice", kind: "sign-in", name: "ws-17" }]);
});

test("whom the pool does not know is refused by name, or added where an administrator wants that", async () => {
  const pool = await startPool(postgres, 1);
  const { client } = pool;
  await client.call("changeOidcSettings", { body: { settings: settings() } });
  await expect(signIn(pool, "bob")).rejects.toMatchObject({
    code: "FARPOOL_NOT_PERMITTED",
    message: expect.stringContaining("says that it is 'bob', whom this pool does not know"),
  });
  const more = { createsUsers: true, userClaim: "email", emailDomain: "example.org" };
  await client.call("changeOidcSettings", { body: { settings: settings(more) } });
  expect(await signIn(pool, "bob")).toMatchObject({ user: "bob", role: "user" });
  await client.call("disableUser", { params: { userName: "bob" }, body: { isDisabled: true } });
  await expect(signIn(pool, "bob")).rejects.toMatchObject({ message: "the user bob is disabled" });
});

test("an address of another domain is somebody else, whatever is before the @", async () => {
  const pool = await startPool(postgres, 1);
  const { client } = pool;
  const byAddress = (more: object) =>
    client.call("changeOidcSettings", { body: { settings: settings({ userClaim: "email", ...more }) } });
  await expect(byAddress({})).rejects.toMatchObject({
    code: "FARPOOL_BAD_REQUEST",
    message: expect.stringContaining("the claim 'email' wants the domain of the addresses"),
  });
  await byAddress({ emailDomain: "example.com" });
  await expect(signIn(pool, "admin")).rejects.toMatchObject({
    code: "FARPOOL_NOT_PERMITTED",
    message: "the address admin@example.org is not one of example.com",
  });
  await byAddress({ emailDomain: "Example.org" });
  expect(await signIn(pool, "admin")).toMatchObject({ user: "admin", role: "administrator" });
});

test("what is wrong with a provider is said when it is named, and a sign-in that was never begun is refused", async () => {
  const { client } = await startPool(postgres, 1);
  const change = (more: object) => client.call("changeOidcSettings", { body: { settings: settings(more) } });
  await expect(change({ issuer: `${provider.issuer}/` })).rejects.toMatchObject({
    code: "FARPOOL_CONFLICT",
    message: expect.stringContaining(`is of the issuer '${provider.issuer}'`),
  });
  await expect(change({ issuer: "http://127.0.0.1:1" })).rejects.toMatchObject({
    code: "FARPOOL_IDENTITY_PROVIDER",
    message: expect.stringContaining(
      "the identity provider does not answer at http://127.0.0.1:1/.well-known",
    ),
  });
  await expect(change({ issuer: "http://example.org" })).rejects.toMatchObject({
    code: "FARPOOL_BAD_REQUEST",
  });
  await change({});
  await expect(client.call("finishOidc", { body: { flow: "no" } })).rejects.toMatchObject({
    code: "FARPOOL_NOT_PERMITTED",
  });
  expect(await client.call("changeOidcSettings", { body: { settings: null } })).toEqual({ settings: null });
});

/** A provider that signs everybody in at once, and whose keys cannot be read. */
async function startKeylessProvider(): Promise<string> {
  const server = createHttpServer((request, response) => {
    const issuer = `http://${request.headers.host}`;
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const answers: Readonly<Record<string, object>> = {
      "/.well-known/openid-configuration": {
        ...{ issuer, token_endpoint: `${issuer}/token`, jwks_uri: `${issuer}/keys` },
        device_authorization_endpoint: `${issuer}/device`,
      },
      "/device": { device_code: "d", user_code: "u", verification_uri: `${issuer}/u`, expires_in: 600 },
      "/token": { id_token: `${part({ alg: "RS256", kid: "1" })}.${part({ sub: "alice" })}.AAAA` },
    };
    const answer = answers[request.url ?? ""];
    response.statusCode = answer === undefined ? 503 : 200;
    response.end(JSON.stringify(answer ?? {}));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
}

test("a provider whose keys cannot be read is what is wrong, and not the person", async () => {
  const { client } = await startPool(postgres, 1);
  const issuer = await startKeylessProvider();
  await client.call("changeOidcSettings", { body: { settings: settings({ issuer }) } });
  const { flow } = await client.call("beginOidc", {});
  await expect(client.call("finishOidc", { body: { flow } })).rejects.toMatchObject({
    code: "FARPOOL_IDENTITY_PROVIDER",
    message: expect.stringContaining(`${issuer}/keys does not tell the provider's keys`),
  });
  const { entries } = await client.call("audit", { query: {} });
  expect(entries.map(({ kind }) => kind)).not.toContain("sign-in-refused");
});
