import { mkdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { FarpoolError } from "@farpool/contract";
import type { ServicePlaces } from "@farpool/layout";
import { listenUnix, type Descriptor } from "@farpool/os";

/** The first that the service manager passes (sd_listen_fds). */
const FIRST_PASSED = 3;

export interface ServiceSocket {
  readonly descriptor: Descriptor;
  /** The service manager's: it outlives this process. */
  readonly isPassed: boolean;
  close(): void;
}

/** The socket that systemd listens on, or one of our own where nobody has passed one. */
export function serviceSocket(
  { scope, socket }: ServicePlaces,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ServiceSocket {
  const passed = passedSocket(environment);
  if (passed !== undefined) return { descriptor: passed, isPassed: true, close: () => undefined };
  try {
    // Whoever may use the GPUs passes through the folder; the kernel tells who that is.
    mkdirSync(dirname(socket), { recursive: true, mode: scope === "system" ? 0o755 : 0o700 });
    const descriptor = listenUnix(socket, scope === "system" ? 0o666 : 0o600);
    return { descriptor, isPassed: false, close: () => rmSync(socket, { force: true }) };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `the service cannot listen on ${socket}: ${why}`, {
      hint: "another service may be running: 'farpool service status' asks it",
      cause,
    });
  }
}

/** Undefined: systemd has passed none to this process. */
export function passedSocket(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Descriptor | undefined {
  const passed = Number(environment["LISTEN_FDS"] ?? 0);
  if (environment["LISTEN_PID"] !== String(process.pid) || passed === 0) return undefined;
  if (passed === 1) return FIRST_PASSED;
  throw new FarpoolError("FARPOOL_USAGE", `systemd passed ${passed} sockets, expected 1`, {
    hint: "farpool-client.socket has one ListenStream",
  });
}
