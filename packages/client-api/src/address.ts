import { readFileSync } from "node:fs";
import { DEFAULT_MANAGER_PORT, FarpoolError } from "@farpool/contract";

/** Where a manager listens. Whoever can open the Unix socket is trusted; over TCP a token is needed. */
export type ManagerAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly token: string | null };

export function formatAddress(address: ManagerAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `http://${host}:${address.port}`;
}

/** `unix:/path/manager.sock` or `http://host:7443`; the token comes from a file that only its owner reads. */
export function parseAddress(text: string, tokenFile: string | undefined): ManagerAddress {
  if (text.startsWith("unix:")) return { kind: "unix", path: text.slice("unix:".length) };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.protocol !== "http:" || url.hostname === "") {
    throw new FarpoolError("FARPOOL_USAGE", `'${text}' is not the address of a manager`, {
      hint: "addresses look like unix:/run/farpool/manager.sock or http://host:7443",
    });
  }
  const port = url.port === "" ? DEFAULT_MANAGER_PORT : Number(url.port);
  return {
    kind: "tcp",
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port,
    token: tokenFile === undefined ? null : readToken(tokenFile),
  };
}

function readToken(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw new FarpoolError("FARPOOL_UNAUTHENTICATED", `the token file ${file} cannot be read`, { cause });
  }
}
