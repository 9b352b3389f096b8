import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { ProxyConnection, type CutKind, type Tripwire } from "./connection.ts";
import type { Direction, Shape } from "./flow.ts";
import { planCuts, type PlannedCut, type PlanOptions } from "./random.ts";

export type Target = { readonly host: string; readonly port: number } | { readonly path: string };

interface BufferSizes {
  readonly receiveBytes: number;
  readonly sendBytes: number;
}

export interface CuttingProxyOptions {
  readonly target: Target;
  /** `setBufferSizes` of @farpool/os, which needs the built add-on; only a slow link asks for it. */
  readonly setBufferSizes?: (socket: Socket | Server, sizes: BufferSizes) => void;
}

interface Chosen {
  /** Only this connection, by its number in `connections`; else all that are open. */
  readonly lane?: number;
}

export interface LaterCut extends Chosen {
  readonly bytes: number;
  /** Which bytes count: both directions' when not given. */
  readonly direction?: Direction;
  /** `reset` when not given. */
  readonly kind?: CutKind;
}

export interface Link {
  readonly bytesPerSecond?: number;
  readonly delayMs?: number;
  /** What the link holds of each direction: 64 KiB of a slow one, beside the small buffers of its sockets. */
  readonly bufferBytes?: number;
}

export interface RandomCutsOptions extends Omit<PlanOptions<CutKind | "blackhole">, "blackholeMs"> {
  readonly blackholeMs?: readonly [number, number];
  /** Whether a cut hits all connections, or the one that carried the byte before it. */
  readonly hits?: "all" | "one";
}

export interface RandomCuts {
  /** What happened so far, in order, as planned. */
  readonly happened: readonly (PlannedCut<CutKind | "blackhole"> & { readonly lane: number })[];
  /** Resolves when all have happened, or `stop` was called. */
  readonly over: Promise<void>;
  stop(): void;
}

/** A TCP proxy that does to connections what networks do to them. */
export interface CuttingProxy extends AsyncDisposable {
  readonly host: string;
  /** Another one after `move`. */
  readonly port: number;
  /** All that were ever accepted, in that order. */
  readonly connections: readonly ProxyConnection[];
  /** Cuts now; answers how many connections. */
  cut(kind: CutKind, chosen?: Chosen): number;
  /**
   * Lets so many more bytes pass and then cuts: the last frame arrives in part. Without a lane it is the
   * connection on which the last of these bytes passes. Resolves when it has happened.
   */
  cutAfter(later: LaterCut): Promise<ProxyConnection>;
  /** Cuts the next new connection after its first bytes. Resolves when it has happened. */
  cutAttach(later: Omit<LaterCut, "lane">): Promise<ProxyConnection>;
  /** Forwards nothing for a while, or until `heal`. New connections are taken and get no answer until then. */
  blackhole(durationMs?: number): Promise<void>;
  heal(): void;
  /** Makes the link slow, long, or (without arguments) as it was. */
  shape(link?: Link): void;
  /** Another port: the old one refuses. Connections are reset unless they are to be kept. */
  move(options?: { readonly keepConnections?: boolean }): Promise<number>;
  randomCuts(options: RandomCutsOptions): RandomCuts;
  close(): Promise<void>;
}

const HOST = "127.0.0.1";
const SMALL_BUFFERS: BufferSizes = { receiveBytes: 16 * 1024, sendBytes: 16 * 1024 };

export async function startCuttingProxy({
  target,
  setBufferSizes,
}: CuttingProxyOptions): Promise<CuttingProxy> {
  const connections: ProxyConnection[] = [];
  const tripwires: Tripwire[] = [];
  const attachWires: Tripwire[] = [];
  let shape: Shape | undefined;
  let hole: { readonly over: Promise<void>; readonly heal: () => void } | undefined;
  let hasSmallBuffers = false;

  const narrow = (socket: Socket | Server): void => setBufferSizes?.(socket, SMALL_BUFFERS);

  function connectTarget(): Socket {
    const socket = connect({ ...target, allowHalfOpen: true });
    if (hasSmallBuffers) socket.once("connect", () => narrow(socket));
    return socket;
  }

  function accept(client: Socket): void {
    const connection = new ProxyConnection(connections.length, client, { shape: () => shape, tripwires });
    connections.push(connection);
    const wire = attachWires.shift();
    if (wire !== undefined) connection.add(wire);
    if (hole === undefined) connection.start(connectTarget);
    else connection.hold();
  }

  async function listen(): Promise<Server> {
    // Nothing is read before the target is there.
    const opened = createServer({ allowHalfOpen: true, pauseOnConnect: true }, accept);
    await new Promise<void>((resolve, reject) => {
      opened.once("error", reject);
      opened.listen(0, HOST, resolve);
    });
    if (hasSmallBuffers) narrow(opened);
    return opened;
  }

  function chosen({ lane }: Chosen): readonly ProxyConnection[] {
    if (lane === undefined) return connections.filter(({ isOpen }) => isOpen);
    const one = connections[lane];
    if (one === undefined) {
      throw new Error(`the proxy has had ${connections.length} connections, none with the number ${lane}`);
    }
    return [one];
  }

  function cut(kind: CutKind, which: Chosen = {}): number {
    return chosen(which).filter((connection) => connection.cut(kind)).length;
  }

  function later(cutLater: LaterCut, add: (wire: Tripwire) => void): Promise<ProxyConnection> {
    if (!(cutLater.bytes >= 1))
      throw new RangeError(`a cut after ${cutLater.bytes} bytes: at least 1 passes`);
    return new Promise((resolve) => {
      add({
        remainingBytes: cutLater.bytes,
        direction: cutLater.direction ?? "either",
        happen(connection) {
          connection.cut(cutLater.kind ?? "reset");
          resolve(connection);
        },
      });
    });
  }

  function blackhole(durationMs?: number): Promise<void> {
    hole ??= openHole();
    const { over, heal } = hole;
    if (durationMs !== undefined) setTimeout(heal, durationMs);
    return over;
  }

  function openHole(): NonNullable<typeof hole> {
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const connection of connections) connection.hold();
    const opened = {
      over: promise,
      heal() {
        // A timer of an earlier hole does not heal this one.
        if (hole !== opened) return;
        hole = undefined;
        for (const connection of connections) {
          connection.release();
          connection.start(connectTarget);
        }
        resolve();
      },
    };
    return opened;
  }

  async function close(): Promise<void> {
    hole?.heal();
    for (const connection of connections) connection.destroy();
    await new Promise((resolve) => server.close(resolve));
  }

  let server = await listen();
  const portOf = (): number => (server.address() as AddressInfo).port;
  let port = portOf();

  return {
    host: HOST,
    get port() {
      return port;
    },
    connections,
    cut,
    cutAfter: (cutLater) =>
      later(cutLater, (wire) => {
        if (cutLater.lane === undefined) tripwires.push(wire);
        else for (const connection of chosen(cutLater)) connection.add(wire);
      }),
    cutAttach: (cutLater) => later(cutLater, (wire) => void attachWires.push(wire)),
    blackhole,
    heal: () => hole?.heal(),
    shape(link) {
      const { bytesPerSecond = Infinity, delayMs = 0 } = link ?? {};
      const isSlow = bytesPerSecond < Infinity;
      if (isSlow && setBufferSizes === undefined) {
        throw new Error("a slow link needs the option setBufferSizes: the kernel would hold megabytes of it");
      }
      const bufferBytes = link?.bufferBytes ?? (isSlow ? 64 * 1024 : 64 * 1024 * 1024);
      shape = link === undefined ? undefined : { bytesPerSecond, delayMs, bufferBytes };
      for (const connection of connections) connection.moveOn();
      if (!isSlow) return;
      hasSmallBuffers = true;
      narrow(server);
      for (const { isOpen, sockets } of connections) if (isOpen) for (const socket of sockets) narrow(socket);
    },
    async move({ keepConnections = false } = {}) {
      const before = server;
      server = await listen();
      port = portOf();
      before.close();
      if (!keepConnections) cut("reset");
      return port;
    },
    randomCuts: (options) => startRandomCuts(options, { tripwires, cut, blackhole }),
    close,
    [Symbol.asyncDispose]: close,
  };
}

interface Cutter {
  readonly tripwires: Tripwire[];
  cut(kind: CutKind, chosen?: Chosen): number;
  blackhole(durationMs: number): Promise<void>;
}

/** The next cut is counted from the one before it: the bytes between two are the same in every run. */
function startRandomCuts(options: RandomCutsOptions, { tripwires, cut, blackhole }: Cutter): RandomCuts {
  const plan = planCuts({ blackholeMs: [50, 500], ...options });
  const happened: Array<RandomCuts["happened"][number]> = [];
  const { promise: over, resolve } = Promise.withResolvers<void>();
  let current: Tripwire | undefined;
  const next = (): void => {
    const planned = plan[happened.length];
    current = undefined;
    if (planned === undefined) {
      resolve();
      return;
    }
    current = {
      remainingBytes: planned.afterBytes,
      direction: "either",
      happen({ lane }) {
        happened.push({ ...planned, lane });
        if (planned.kind === "blackhole") void blackhole(planned.durationMs);
        else if (options.hits === "one") cut(planned.kind, { lane });
        else cut(planned.kind);
        next();
      },
    };
    tripwires.push(current);
  };
  next();
  return {
    happened,
    over,
    stop() {
      const index = current === undefined ? -1 : tripwires.indexOf(current);
      if (index >= 0) tripwires.splice(index, 1);
      resolve();
    },
  };
}
