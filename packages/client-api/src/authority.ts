import { createHash, X509Certificate } from "node:crypto";
import { Agent, request } from "node:https";
import { TLSSocket, type DetailedPeerCertificate } from "node:tls";
import { FarpoolError, MANAGER_TLS_NAME, ROUTES } from "@farpool/contract";
import { formatAddress } from "./address.ts";

const PATIENCE_MS = 10_000;

export interface Expected {
  readonly host: string;
  readonly port: number;
  /** SHA-256 of the authority's certificate (DER), base64url. */
  readonly authorityHash: string;
}

/**
 * The certificate (PEM) of the authority that a manager shows, if it is the one expected. Nothing is told to the other side
 * before that, and what is sent afterwards goes over a connection that is checked against this certificate.
 */
export async function fetchAuthority({ host, port, authorityHash }: Expected): Promise<string> {
  const shown = await shownAuthority(host, port);
  const hash = createHash("sha256").update(shown.raw).digest("base64url");
  if (hash === authorityHash) return shown.toString();
  throw new FarpoolError(
    "FARPOOL_OTHER_AUTHORITY",
    `the manager at ${formatAddress({ host, port })} has another certificate authority than the one in the string: SHA-256 ${hash}, expected ${authorityHash}`,
    {
      hint: "it is another pool, or somebody answers in the manager's place; nothing was told to it. Ask the administrator",
    },
  );
}

/** Of each certificate of a PEM text, as join strings name it. */
export function authorityHashes(bundle: string): string[] {
  const parts = bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return parts.map((part) => createHash("sha256").update(new X509Certificate(part).raw).digest("base64url"));
}

/** The types promise more than a peer without a certificate, or with half a chain, gives. */
function issuerOf(shown: Partial<DetailedPeerCertificate>): Buffer | undefined {
  return shown.issuerCertificate?.raw;
}

/** Asks for something that everybody may see, the way that later requests go: through a proxy where there is one. */
function shownAuthority(host: string, port: number): Promise<X509Certificate> {
  const place = formatAddress({ host, port });
  const agent = new Agent({ proxyEnv: process.env });
  return new Promise<X509Certificate>((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      const sentence = `the manager at ${place} cannot be reached (${why})`;
      reject(
        new FarpoolError("FARPOOL_POOL_UNREACHABLE", sentence, {
          hint: `TCP port ${port} of ${host} must be open from this machine; 'farpool up --listen ADDRESS' makes a pool listen`,
          cause,
        }),
      );
    };
    const path = ROUTES.authority.path;
    const outgoing = request({
      ...{ agent, host, port, path, servername: MANAGER_TLS_NAME },
      // Whose certificate it is, is what this finds out; nothing is told to it.
      rejectUnauthorized: false,
    });
    outgoing.setTimeout(PATIENCE_MS, () =>
      outgoing.destroy(new Error(`no answer within ${PATIENCE_MS / 1_000} s`)),
    );
    outgoing.once("error", (error: NodeJS.ErrnoException) => fail(error.code ?? error.message, error));
    outgoing.once("response", (incoming) => {
      const { socket } = incoming;
      const authority = socket instanceof TLSSocket ? issuerOf(socket.getPeerCertificate(true)) : undefined;
      incoming.resume();
      if (authority === undefined) fail("it shows no certificate");
      else resolve(new X509Certificate(authority));
    });
    outgoing.end();
  }).finally(() => agent.destroy());
}
