import type { Socket } from "node:net";
import { Flow, type Direction, type Shape } from "./flow.ts";

/**
 * What each side sees of a cut: RST, FIN, or nothing at all (the connection stays open and silent for as long
 * as the proxy runs). Nothing is forwarded after it in either direction.
 */
export const CUTS = {
  reset: { client: "reset", target: "reset" },
  "reset-client": { client: "reset", target: "silence" },
  "reset-target": { client: "silence", target: "reset" },
  finish: { client: "finish", target: "finish" },
  "finish-client": { client: "finish", target: "silence" },
  "finish-target": { client: "silence", target: "finish" },
  silence: { client: "silence", target: "silence" },
} as const satisfies Record<string, Record<"client" | "target", "reset" | "finish" | "silence">>;

export type CutKind = keyof typeof CUTS;

/** Something that happens when so many more bytes have passed. */
export interface Tripwire {
  remainingBytes: number;
  readonly direction: Direction | "either";
  happen(connection: ProxyConnection): void;
}

/** A connection through the proxy. */
export class ProxyConnection {
  /** Its number among all that were ever accepted, from 0: a client's first connection, its bulk lane, … */
  readonly lane: number;
  readonly #client: Socket;
  readonly #shared: { readonly shape: () => Shape | undefined; readonly tripwires: Tripwire[] };
  readonly #own: Tripwire[] = [];
  readonly #tripped: Tripwire[] = [];
  #target: Socket | undefined;
  #flows: { readonly up: Flow; readonly down: Flow } | undefined;
  #cutBy: CutKind | undefined;
  #isHeld = false;
  #isOver = false;

  constructor(
    lane: number,
    client: Socket,
    shared: { readonly shape: () => Shape | undefined; readonly tripwires: Tripwire[] },
  ) {
    this.lane = lane;
    this.#client = client;
    this.#shared = shared;
    this.#watch(client, () => this.#target);
  }

  /** Both ends are there and nobody has cut it. */
  get isOpen(): boolean {
    return this.#cutBy === undefined && !this.#isOver;
  }

  get cutBy(): CutKind | undefined {
    return this.#cutBy;
  }

  get forwardedBytes(): Readonly<Record<Direction, number>> {
    return { up: this.#flows?.up.forwardedBytes ?? 0, down: this.#flows?.down.forwardedBytes ?? 0 };
  }

  get sockets(): readonly Socket[] {
    return this.#target === undefined ? [this.#client] : [this.#client, this.#target];
  }

  /** Begins to forward, now or when the black hole is over. */
  start(connectTarget: () => Socket): void {
    if (!this.isOpen || this.#flows !== undefined) return;
    const target = connectTarget();
    this.#target = target;
    this.#watch(target, () => this.#client);
    const gate = {
      allowed: (direction: Direction) =>
        Math.min(Infinity, ...this.#wires(direction).map(({ remainingBytes }) => remainingBytes)),
      passed: (direction: Direction, bytes: number) => this.#count(direction, bytes),
      happen: () => {
        for (const wire of this.#tripped.splice(0)) wire.happen(this);
      },
    };
    const { shape } = this.#shared;
    this.#flows = {
      up: new Flow({ source: this.#client, sink: target, direction: "up", gate, shape }),
      down: new Flow({ source: target, sink: this.#client, direction: "down", gate, shape }),
    };
    if (this.#isHeld) this.#eachFlow((flow) => flow.hold());
    else this.#client.resume();
  }

  cut(kind: CutKind): boolean {
    if (!this.isOpen) return false;
    this.#cutBy = kind;
    this.#eachFlow((flow) => flow.stop());
    cutSide(this.#client, CUTS[kind].client);
    if (this.#target !== undefined) cutSide(this.#target, CUTS[kind].target);
    return true;
  }

  hold(): void {
    this.#isHeld = true;
    this.#eachFlow((flow) => flow.hold());
  }

  release(): void {
    this.#isHeld = false;
    if (!this.isOpen) return;
    // What one side did meanwhile reaches the other one now.
    for (const [socket, other] of [
      [this.#client, this.#target],
      [this.#target, this.#client],
    ] as const) {
      if (socket?.destroyed === true) {
        this.#lose(other);
        return;
      }
    }
    this.#eachFlow((flow) => flow.release());
  }

  /** The link has another shape. */
  moveOn(): void {
    this.#eachFlow((flow) => flow.moveOn());
  }

  add(wire: Tripwire): void {
    this.#own.push(wire);
  }

  destroy(): void {
    this.#isOver = true;
    this.#eachFlow((flow) => flow.stop());
    for (const socket of this.sockets) socket.destroy();
  }

  #eachFlow(work: (flow: Flow) => void): void {
    if (this.#flows === undefined) return;
    work(this.#flows.up);
    work(this.#flows.down);
  }

  /** A socket that fails or is reset takes the other one with it, as a wire would. */
  #watch(socket: Socket, other: () => Socket | undefined): void {
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.on("close", (hadError) => {
      if (!this.isOpen || this.#isHeld) return;
      if (hadError) this.#lose(other());
      else if (other()?.destroyed !== false) this.#isOver = true;
    });
  }

  #lose(other: Socket | undefined): void {
    this.#isOver = true;
    this.#eachFlow((flow) => flow.stop());
    other?.resetAndDestroy();
  }

  #wires(direction: Direction): Tripwire[] {
    const all = this.#own.length === 0 ? this.#shared.tripwires : [...this.#own, ...this.#shared.tripwires];
    return all.filter((wire) => wire.direction === "either" || wire.direction === direction);
  }

  #count(direction: Direction, bytes: number): boolean {
    for (const wire of this.#wires(direction)) {
      wire.remainingBytes -= bytes;
      if (wire.remainingBytes > 0) continue;
      for (const list of [this.#own, this.#shared.tripwires]) {
        const index = list.indexOf(wire);
        if (index >= 0) list.splice(index, 1);
      }
      this.#tripped.push(wire);
    }
    return this.#tripped.length > 0;
  }
}

function cutSide(socket: Socket, how: "reset" | "finish" | "silence"): void {
  switch (how) {
    case "reset":
      socket.resetAndDestroy();
      break;
    case "finish":
      // It is read and forgotten until the other side ends as well, which a close with unread data would reset.
      socket.end().removeAllListeners("data").resume();
      socket.once("end", () => socket.destroy());
      break;
    case "silence":
      socket.pause();
      break;
  }
}
