import Provider from "oidc-provider";

/** A real OpenID Connect provider as a process of its own: `PORT` is its argument. Whoever signs in is who she says she is. */
const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "farpool",
      client_secret: "a secret of the client",
      grant_types: ["urn:ietf:params:oauth:grant-type:device_code"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: { deviceFlow: { enabled: true } },
  claims: { openid: ["sub"], profile: ["preferred_username"], email: ["email", "email_verified"] },
  conformIdTokenClaims: false,
  cookies: { keys: ["for tests only"] },
  findAccount: (_: unknown, id: string) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, email: `${id}@example.org`, email_verified: true }),
  }),
});
provider.listen(port, "127.0.0.1", () => process.stdout.write("ready\n"));
