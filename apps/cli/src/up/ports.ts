import { createServer, isIP } from "node:net";
import { FarpoolError } from "@farpool/contract";

interface Port {
  readonly host: string;
  readonly port: number;
  /** What chooses it. */
  readonly option: string;
}

export function requireAddress(host: string): void {
  if (isIP(host) !== 0) return;
  throw new FarpoolError("FARPOOL_USAGE", `--listen takes an IP address, not '${host}'`, {
    hint: "--listen 0.0.0.0 listens on all of this machine's",
  });
}

/** Why nobody can listen there, for people. What has another reason stays what it is. */
export function portError(error: unknown, { host, port, option }: Port): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "EADDRINUSE":
      return new FarpoolError("FARPOOL_CONFLICT", `port ${port} of ${host} is taken by another program`, {
        hint: `${option} chooses another port`,
      });
    case "EADDRNOTAVAIL":
      return new FarpoolError("FARPOOL_USAGE", `this machine has no address ${host}`, {
        hint: "'ip address' lists them",
      });
    case "EACCES":
      return new FarpoolError("FARPOOL_NOT_PERMITTED", `this user may not listen on port ${port}`, {
        hint: `${option} chooses another port`,
      });
    default:
      return error;
  }
}

/** The port itself, or a free one for 0: a part that restarts must come back at the same place. */
export async function choosePort(host: string, port: number, option: string): Promise<number> {
  requireAddress(host);
  const server = createServer();
  try {
    return await new Promise<number>((resolve, reject) => {
      server.once("error", (error) => reject(portError(error, { host, port, option }) as Error));
      server.listen(port, host, () => {
        const address = server.address();
        resolve(typeof address === "object" && address !== null ? address.port : port);
      });
    });
  } finally {
    server.close();
  }
}

/** An IPv6 address as URLs have it. */
export const bracketed = (host: string): string => (host.includes(":") ? `[${host}]` : host);
