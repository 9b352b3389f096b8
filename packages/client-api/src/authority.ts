import { createHash, X509Certificate } from "node:crypto";
import { connect, type DetailedPeerCertificate } from "node:tls";
import { FarpoolError, MANAGER_TLS_NAME } from "@farpool/contract";
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

/** The types promise more than a peer without a certificate, or with half a chain, gives. */
function issuerOf(shown: Partial<DetailedPeerCertificate>): Buffer | undefined {
  return shown.issuerCertificate?.raw;
}

function shownAuthority(host: string, port: number): Promise<X509Certificate> {
  const place = formatAddress({ host, port });
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      socket.destroy();
      const sentence = `the manager at ${place} cannot be reached (${why})`;
      reject(
        new FarpoolError("FARPOOL_POOL_UNREACHABLE", sentence, {
          hint: `TCP port ${port} of ${host} must be open from this machine; 'farpool up --listen ADDRESS' makes a pool listen`,
          cause,
        }),
      );
    };
    const socket = connect({ host, port, servername: MANAGER_TLS_NAME, rejectUnauthorized: false }, () => {
      const authority = issuerOf(socket.getPeerCertificate(true));
      socket.end();
      if (authority === undefined) fail("it shows no certificate");
      else resolve(new X509Certificate(authority));
    });
    socket.setTimeout(PATIENCE_MS, () => fail(`no answer within ${PATIENCE_MS / 1_000} s`));
    socket.once("error", (error: NodeJS.ErrnoException) => fail(error.code ?? error.message, error));
  });
}
