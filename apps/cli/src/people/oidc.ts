import { setTimeout as sleep } from "node:timers/promises";
import type { ManagerClient } from "@farpool/client-api";
import { FarpoolError, type OidcSettings } from "@farpool/contract";
import { print, printJson, say } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";
import { readPassword } from "./password.ts";

type SignedIn = NonNullable<Awaited<ReturnType<typeof finish>>["signedIn"]>;
const finish = (client: ManagerClient, flow: string, device: string) =>
  client.call("finishOidc", { body: { flow, device } }, { timeoutMs: 30_000 });

/** Shows where to sign in, and waits until that was done: in any browser, on any machine. */
export async function signInAtProvider(client: ManagerClient, device: string): Promise<SignedIn> {
  const started = await client.call("beginOidc", {}, { timeoutMs: 30_000 });
  const { verificationUri, verificationUriComplete, userCode, flow } = started;
  say(`open ${verificationUri} in a browser and enter the code ${userCode}`);
  if (verificationUriComplete !== null) say(`or, with the code in it: ${verificationUriComplete}`);
  let { intervalSeconds } = started;
  // The manager says when it has taken too long: this machine's clock may be wrong.
  for (;;) {
    await sleep(intervalSeconds * 1_000);
    const answer = await finish(client, flow, device);
    if (answer.signedIn !== null) return answer.signedIn;
    ({ intervalSeconds } = answer);
  }
}

export async function showOidc(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("oidcSettings", {}));
  if (isJson) printJson(answer);
  else print(page(answer.settings));
  return 0;
}

function page(settings: OidcSettings | null): string {
  if (settings === null) return "people sign in with a password or a link: no identity provider is named";
  const { issuer, clientId, hasSecret, userClaim, emailDomain, createsUsers } = settings;
  const claim = emailDomain === null ? userClaim : `${userClaim}, of addresses at ${emailDomain}`;
  return [
    `issuer  ${issuer}`,
    `client  ${clientId}, ${hasSecret ? "with a secret" : "without a secret"}`,
    `user    the claim ${claim}; ${createsUsers ? "who is not known is added" : "who is not known is refused"}`,
  ].join("\n");
}

export interface OidcOptions {
  readonly isJson: boolean;
  readonly clientId: string | undefined;
  readonly isSecretFromStdin: boolean;
  readonly claim: string | undefined;
  readonly emailDomain: string | undefined;
  readonly isCreating: boolean;
}

export async function setOidc(options: OidcOptions, issuer: string): Promise<number> {
  const { clientId, claim, emailDomain } = options;
  if (clientId === undefined)
    throw new FarpoolError("FARPOOL_USAGE", "'farpool admin oidc set' wants --client-id", {
      hint: "it is what the provider calls this pool",
    });
  const clientSecret = options.isSecretFromStdin ? await readPassword("", true) : null;
  const answer = await withPool((client) =>
    client.call(
      "changeOidcSettings",
      {
        body: {
          settings: {
            ...{ issuer, clientId, clientSecret, createsUsers: options.isCreating },
            ...(claim !== undefined && { userClaim: claim }),
            ...(emailDomain !== undefined && { emailDomain }),
          },
        },
      },
      { timeoutMs: 30_000 },
    ),
  );
  if (options.isJson) printJson(answer);
  else say(`people sign in at ${issuer} with 'farpool login --oidc'`);
  return 0;
}

export async function removeOidc(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("changeOidcSettings", { body: { settings: null } }));
  if (isJson) printJson(answer);
  else say("nobody signs in at an identity provider any more; sign-ins that were made stay until they end");
  return 0;
}
