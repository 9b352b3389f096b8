import { homedir } from "node:os";
import { join } from "node:path";
import { poolFolders } from "./folders.ts";

/** `system`: for all users of a machine, run by root. `user`: one person's own. */
export const serviceScopes = ["system", "user"] as const;
export type ServiceScope = (typeof serviceScopes)[number];

export interface ServicePlaces {
  readonly scope: ServiceScope;
  /** What is asked for; people write it. */
  readonly configuration: string;
  /** Alone in its folder, which a container can be given. Shims look for it by this name. */
  readonly socket: string;
  /** What has to outlive the process; nobody else reads it. */
  readonly state: string;
  readonly log: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** `FARPOOL_BROKER` names another socket, for the service as for shims. */
export function servicePlaces(scope: ServiceScope, environment: Environment = process.env): ServicePlaces {
  const { state } = poolFolders(environment);
  const own = {
    scope,
    state: join(state, "client-service-state.json"),
    log: join(state, "client-service.log"),
  };
  // An empty one is as none, for shims too.
  const named = environment["FARPOOL_BROKER"] || undefined;
  const configured = environment["FARPOOL_SERVICE_CONFIG"] || undefined;
  if (scope === "system") {
    return {
      ...own,
      configuration: configured ?? "/etc/farpool/client-service.yaml",
      socket: named ?? "/run/farpool-client/broker.sock",
    };
  }
  const configurations = environment["XDG_CONFIG_HOME"] || join(homedir(), ".config");
  return {
    ...own,
    configuration: configured ?? join(configurations, "farpool/client-service.yaml"),
    socket: named ?? `/run/user/${process.getuid?.() ?? 0}/farpool-client/broker.sock`,
  };
}
