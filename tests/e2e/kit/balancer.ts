import { type AddressInfo, type Socket, connect, createServer } from "node:net";

/** One address for several managers, as a balancer or a name with several addresses is one. */
export interface Balancer {
  readonly port: number;
  /** From where it leads to, in the order in which they are tried; each connection begins with the next one. */
  readonly targets: number[];
  close(): Promise<void>;
}

/** Passes bytes on, and goes to the next manager where nobody listens. */
export async function startBalancer(): Promise<Balancer> {
  const targets: number[] = [];
  const open = new Set<Socket>();
  let next = 0;
  const server = createServer({ allowHalfOpen: true }, (incoming) => {
    open.add(incoming);
    incoming.on("error", () => incoming.destroy()).once("close", () => open.delete(incoming));
    const first = next++;
    const attempt = (number: number): void => {
      const port = targets[(first + number) % targets.length];
      if (port === undefined || number >= targets.length) return void incoming.destroy();
      const outgoing = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
      const tryNext = (): void => attempt(number + 1);
      outgoing.once("error", tryNext);
      outgoing.once("connect", () => {
        outgoing.off("error", tryNext);
        open.add(outgoing);
        const end = (): void => {
          outgoing.destroy();
          incoming.destroy();
        };
        outgoing
          .on("error", end)
          .once("close", () => open.delete(outgoing))
          .once("close", end);
        incoming.once("close", end);
        incoming.pipe(outgoing).pipe(incoming);
      });
    };
    attempt(0);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  // `listen` with a port answers with a port.
  const { port } = server.address() as AddressInfo;
  return {
    port,
    targets,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
