import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";

/** A port that nobody has, and that no outgoing connection is given by the kernel before it is used. */
export async function freePort(): Promise<number> {
  const [first] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/).map(Number);
  const [least, end] = [10_000, first ?? 32_768];
  if (end <= least) throw new Error(`no ports between ${least} and ${end}, where outgoing connections begin`);
  for (;;) {
    const port = randomInt(least, end);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(false) : reject(error),
    );
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
