import { FarpoolError } from "@farpool/contract";
import type { ServiceScope } from "@farpool/layout";

/** What `--system` and `--user` say. */
export interface Scopes {
  readonly isSystem: boolean;
  readonly isUser: boolean;
}

/** One of the two; root means all users, and anybody else herself. */
export function scopeOf({ isSystem, isUser }: Scopes): ServiceScope {
  if (isSystem && isUser) throw contradiction();
  if (isSystem) return "system";
  if (isUser) return "user";
  return process.getuid?.() === 0 ? "system" : "user";
}

/** Whom to ask, in the order in which programs do. */
export function wantedScopes({ isSystem, isUser }: Scopes): readonly ServiceScope[] {
  if (isSystem && isUser) throw contradiction();
  if (isSystem) return ["system"];
  if (isUser) return ["user"];
  // One that was named is the only one that programs ask.
  return (process.env["FARPOOL_BROKER"] ?? "") === "" ? ["user", "system"] : ["system"];
}

export function requireRoot(scope: ServiceScope, what: string): void {
  if (scope === "user" || process.getuid?.() === 0) return;
  throw new FarpoolError("FARPOOL_NOT_PERMITTED", `only root may ${what} the client service of all users`, {
    hint: `sudo farpool service ${what} --system; '--user' is for your own`,
  });
}

function contradiction(): FarpoolError {
  return new FarpoolError("FARPOOL_USAGE", "--system and --user contradict each other", {
    hint: "one of them is enough",
  });
}
