import type { MachineRole, Thumbprint, TokenScope, UserRole } from "@farpool/contract";

/** A machine that has shown its certificate, and proved in the handshake to hold the key. */
export interface MachinePrincipal {
  /** A server's is its server id. */
  readonly id: string;
  readonly role: MachineRole;
  readonly name: string;
  readonly thumbprint: Thumbprint;
  readonly serial: string;
  readonly certificateExpiresAt: Date;
}

export interface UserPrincipal {
  readonly id: string;
  readonly name: string;
  readonly role: UserRole;
  readonly tokenId: string;
  readonly scopes: readonly TokenScope[];
}

/** Who asks. */
export interface Principal {
  readonly machine: MachinePrincipal | null;
  readonly user: UserPrincipal | null;
  readonly isAdministrator: boolean;
  /** In words, for refusals and the audit. */
  readonly description: string;
  /** Where the request came from. */
  readonly peer: string;
}

export const LOCAL_PEER = "local";

/** The manager's own work, and its tests. */
export const THE_MANAGER: Principal = {
  machine: null,
  user: null,
  isAdministrator: true,
  description: "the manager",
  peer: LOCAL_PEER,
};

declare module "fastify" {
  interface FastifyRequest {
    principal: Principal;
  }
}
