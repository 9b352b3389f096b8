import { FarpoolError } from "@farpool/contract";
import type { Refusal } from "../run/answer.ts";

/** There is no session, and why. */
export class NotHeld extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.sentence);
    this.name = "NotHeld";
    this.refusal = refusal;
  }
}

export function stopping(): Refusal {
  return {
    exitCode: 69,
    cudaError: "CUDA_ERROR_SYSTEM_NOT_READY",
    sentence: "the client service is stopping; hint: 'farpool service status' tells when it is back",
  };
}

/** The pool does not answer now. */
export function isPassing(error: unknown): boolean {
  if (!(error instanceof FarpoolError)) return true;
  return (
    error.code === "FARPOOL_POOL_UNREACHABLE" ||
    error.code === "FARPOOL_UNAVAILABLE" ||
    error.code === "FARPOOL_TOO_MANY_ATTEMPTS"
  );
}

export function refusalOf(error: unknown): Refusal {
  const known = error instanceof FarpoolError ? error : undefined;
  const hint = known?.hint ?? null;
  return {
    exitCode: known?.exitCode ?? 70,
    cudaError: "CUDA_ERROR_NO_DEVICE",
    sentence: hint === null ? messageOf(error) : `${messageOf(error)}; hint: ${hint}`,
  };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
