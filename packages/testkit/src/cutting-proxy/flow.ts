import type { Socket } from "node:net";

/** `up`: from the client to the target. */
export type Direction = "up" | "down";

/** What a slow or long link does to the bytes of one direction. */
export interface Shape {
  readonly bytesPerSecond: number;
  readonly delayMs: number;
  /** What the link holds at most; the sender waits then. */
  readonly bufferBytes: number;
}

/** Says how many of the next bytes may pass before something happens to the connection. */
export interface Gate {
  /** More than 0; Infinity when nothing will happen. */
  allowed(direction: Direction): number;
  /** So many have passed: true when something is to happen now. */
  passed(direction: Direction, bytes: number): boolean;
  happen(): void;
}

interface Held {
  readonly bytes: Buffer;
  readonly readyAt: number;
}

/** A piece of a shaped stream takes this long at most, so that a slow link is even. */
const SLICE_MS = 10;

/** One direction of a connection. Bytes go from socket to socket as they come, unless the link has a shape. */
export class Flow {
  forwardedBytes = 0;
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #direction: Direction;
  readonly #gate: Gate;
  readonly #shape: () => Shape | undefined;
  readonly #queue: Held[] = [];
  #queuedBytes = 0;
  #freeAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #sourceEnded = false;
  /** Nothing passes: a black hole. */
  #isHeld = false;
  #isStopped = false;
  /** Something is about to happen, when what was written before it has left. */
  #isAtGate = false;

  constructor(options: {
    readonly source: Socket;
    readonly sink: Socket;
    readonly direction: Direction;
    readonly gate: Gate;
    readonly shape: () => Shape | undefined;
  }) {
    this.#source = options.source;
    this.#sink = options.sink;
    this.#direction = options.direction;
    this.#gate = options.gate;
    this.#shape = options.shape;
    this.#source.on("data", (bytes: Buffer) => this.#take(bytes));
    this.#source.on("end", () => {
      this.#sourceEnded = true;
      this.moveOn();
    });
    this.#sink.on("drain", () => this.moveOn());
  }

  hold(): void {
    this.#isHeld = true;
    this.#source.pause();
  }

  release(): void {
    this.#isHeld = false;
    this.moveOn();
  }

  /** Nothing passes any more, for good. */
  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#source.pause();
    this.#queue.length = 0;
  }

  /** Whatever can move on does. */
  moveOn(): void {
    clearTimeout(this.#timer);
    if (this.#isStopped || this.#isHeld || this.#isAtGate) return;
    while (this.#queue.length > 0 && !this.#sink.writableNeedDrain) {
      const [head] = this.#queue;
      if (head === undefined) break;
      const shape = this.#shape();
      const now = performance.now();
      const waitMs = Math.max(head.readyAt, shape === undefined ? 0 : this.#freeAt) - now;
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.moveOn(), Math.ceil(waitMs));
        break;
      }
      const slice = head.bytes.subarray(0, sliceBytes(shape));
      this.#replaceHead(head.bytes.subarray(slice.length), head.readyAt);
      if (shape !== undefined) {
        this.#freeAt = Math.max(this.#freeAt, now - SLICE_MS) + (slice.length / shape.bytesPerSecond) * 1000;
      }
      this.#forward(slice, (rest) => {
        this.#queue.unshift({ bytes: rest, readyAt: head.readyAt });
        this.#queuedBytes += rest.length;
      });
      if (this.#isAtGate) return;
    }
    const isFull = this.#queuedBytes >= (this.#shape()?.bufferBytes ?? 1);
    if (isFull || this.#sink.writableNeedDrain) this.#source.pause();
    else if (this.#sourceEnded && this.#queue.length === 0) this.#sink.end();
    else this.#source.resume();
  }

  #take(bytes: Buffer): void {
    if (this.#isStopped) return;
    if (this.#isHeld || this.#isAtGate) {
      // What Node had read already when it was told to pause.
      this.#source.pause();
      this.#source.unshift(bytes);
      return;
    }
    const shape = this.#shape();
    if (shape === undefined && this.#queue.length === 0) {
      this.#forward(bytes, (rest) => this.#source.unshift(rest));
      return;
    }
    this.#queue.push({ bytes, readyAt: performance.now() + (shape?.delayMs ?? 0) });
    this.#queuedBytes += bytes.length;
    this.moveOn();
  }

  /** Writes what may pass; the rest is given back to where it came from. */
  #forward(bytes: Buffer, giveBack: (rest: Buffer) => void): void {
    const part = bytes.subarray(0, this.#gate.allowed(this.#direction));
    this.forwardedBytes += part.length;
    const happens = this.#gate.passed(this.#direction, part.length);
    if (!happens) {
      if (!this.#sink.write(part)) this.#source.pause();
      return;
    }
    this.#isAtGate = true;
    this.#source.pause();
    if (part.length < bytes.length) giveBack(bytes.subarray(part.length));
    // The bytes before it arrive: a reset would overtake what is still in this process.
    this.#sink.write(part, () => {
      this.#isAtGate = false;
      this.#gate.happen();
      this.moveOn();
    });
  }

  #replaceHead(rest: Buffer, readyAt: number): void {
    const [head] = this.#queue;
    this.#queuedBytes -= (head?.bytes.length ?? 0) - rest.length;
    if (rest.length === 0) this.#queue.shift();
    else this.#queue[0] = { bytes: rest, readyAt };
  }
}

function sliceBytes(shape: Shape | undefined): number {
  return shape === undefined ? Infinity : Math.max(1, Math.floor((shape.bytesPerSecond * SLICE_MS) / 1000));
}
