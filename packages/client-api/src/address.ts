import { readFileSync } from "node:fs";
import { FarpoolError, parsePlace } from "@farpool/contract";

/** What a machine that has joined proves itself with: both PEM. */
export interface MachineCredentials {
  readonly certificate: string;
  readonly privateKey: string;
  /** Whom the machine trusts by now: there may be more than when it joined. */
  readonly authority?: string;
}

/** Where a manager listens. Whoever can open the Unix socket is trusted; over HTTPS everybody shows something. */
export type ManagerAddress =
  | {
      readonly kind: "unix";
      readonly path: string;
      /** Who has signed in says so here, too. */
      readonly token?: string | null;
    }
  | {
      readonly kind: "https";
      readonly host: string;
      readonly port: number;
      /** PEM: who signs the managers' certificates. */
      readonly authority: string;
      readonly token: string | null;
      /** Asked for each request: a certificate is renewed while programs run. */
      readonly credentials?: () => MachineCredentials | null;
      /** Hears with each answer which authority is the pool's newest. */
      readonly onAuthority?: (hash: string) => void;
    };

export function formatAddress(
  address:
    | { readonly kind: "unix"; readonly path: string }
    | { readonly host: string; readonly port: number },
): string {
  if ("path" in address) return `unix:${address.path}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `https://${host}:${address.port}`;
}

interface Files {
  readonly tokenFile: string | undefined;
  readonly authorityFile: string | undefined;
}

/** `unix:/path/manager.sock` or `https://host:7443`; the token comes from a file that only its owner reads. */
export function parseAddress(text: string, { tokenFile, authorityFile }: Files): ManagerAddress {
  if (text.startsWith("unix:")) return { kind: "unix", path: text.slice("unix:".length) };
  const place = parsePlace(text);
  if (place === undefined)
    throw new FarpoolError("FARPOOL_USAGE", `'${text}' is not the address of a manager`, {
      hint: "addresses look like unix:/run/farpool/manager.sock or https://host:7443",
    });
  if (authorityFile === undefined)
    throw new FarpoolError("FARPOOL_USAGE", `${text} needs the certificate of the pool's authority`, {
      hint: "FARPOOL_CA_FILE names its file ('farpool admin ca' prints it); 'farpool join' and 'farpool login LINK' need none",
    });
  return {
    ...{ kind: "https", ...place },
    authority: read(authorityFile, "the certificate of the pool's authority"),
    token: tokenFile === undefined ? null : read(tokenFile, "the token file").trim(),
  };
}

function read(file: string, what: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new FarpoolError("FARPOOL_UNAUTHENTICATED", `${what}, ${file}, cannot be read (${code})`, {
      cause,
      hint: null,
    });
  }
}
