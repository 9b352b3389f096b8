import type { Endpoint } from "@farpool/contract";

/** Why a process gets no GPU: for its exit code, for CUDA, and for people. */
export interface Refusal {
  readonly exitCode: number;
  readonly cudaError: string;
  readonly sentence: string;
}

/** A process is not let in. */
export class RefusedError extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.sentence);
    this.name = "RefusedError";
    this.refusal = refusal;
  }
}

export function formatRefusal({ exitCode, cudaError, sentence }: Refusal): string {
  return `error ${exitCode} ${cudaError} ${sentence.replaceAll("\n", " ")}\n`;
}

export function formatEndpoint(endpoint: Endpoint): string {
  if (endpoint.kind === "unix") return `endpoint unix ${endpoint.path}`;
  const host = endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host;
  return `endpoint ${endpoint.kind} ${host}:${endpoint.port}`;
}
