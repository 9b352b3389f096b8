import { createServer, isIP } from "node:net";
import { FarpoolError } from "@farpool/contract";

/** The port itself, or a free one for 0: a part that restarts must come back at the same place. */
export async function choosePort(host: string, port: number, option: string): Promise<number> {
  if (isIP(host) === 0) {
    throw new FarpoolError("FARPOOL_USAGE", `--listen takes an IP address, not '${host}'`, {
      hint: "--listen 0.0.0.0 listens on all of this machine's",
    });
  }
  const server = createServer();
  try {
    return await new Promise<number>((resolve, reject) => {
      server.once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "EADDRINUSE") {
          reject(
            new FarpoolError("FARPOOL_CONFLICT", `port ${port} of ${host} is taken by another program`, {
              hint: `${option} chooses another port`,
            }),
          );
        } else if (error.code === "EADDRNOTAVAIL") {
          reject(
            new FarpoolError("FARPOOL_USAGE", `this machine has no address ${host}`, {
              hint: "'ip address' lists them",
            }),
          );
        } else if (error.code === "EACCES") {
          reject(
            new FarpoolError("FARPOOL_NOT_PERMITTED", `this user may not listen on port ${port}`, {
              hint: `${option} chooses another port`,
            }),
          );
        } else reject(error);
      });
      server.listen(port, host, () => {
        const address = server.address();
        resolve(typeof address === "object" && address !== null ? address.port : port);
      });
    });
  } finally {
    server.close();
  }
}
