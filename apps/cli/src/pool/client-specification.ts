import {
  FarpoolError,
  formatDuration,
  formatRequest,
  WHOLE,
  type Client,
  type ClientSpecification,
  type LabelRequirement,
  type Size,
} from "@farpool/contract";
import { formatRequirements } from "@farpool/policies";
import { print, printJson } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";
import { findClient } from "./admin.ts";

export async function show(isJson: boolean, named: string): Promise<number> {
  const answer = await withPool(async (pool) => {
    const client = findClient((await pool.call("listClients", {})).clients, named);
    const params = { thumbprint: client.thumbprint };
    return { client, ...(await pool.call("readClientSpecification", { params })) };
  });
  if (isJson) printJson(answer);
  else print(describe(answer.client, answer.specification));
  return 0;
}

interface Options {
  readonly isJson: boolean;
  readonly count: number | undefined;
  readonly share: Size | undefined;
  readonly memory: Size | undefined;
  readonly filter: readonly LabelRequirement[] | undefined;
  readonly hold: ClientSpecification["hold"] | undefined;
  readonly idleTimeout: number | undefined;
  readonly isServiceOnly: boolean;
  readonly allowsOthers: boolean;
  readonly isNone: boolean;
}

export async function set(options: Options, named: string): Promise<number> {
  const specification = options.isNone ? null : specificationOf(options);
  const answer = await withPool(async (pool) => {
    const client = findClient((await pool.call("listClients", {})).clients, named);
    const params = { thumbprint: client.thumbprint };
    return { client, ...(await pool.call("specifyClient", { params, body: { specification } })) };
  });
  if (options.isJson) printJson(answer);
  else print(describe(answer.client, answer.specification));
  return 0;
}

function specificationOf(options: Options): ClientSpecification {
  const { share, memory, isServiceOnly, allowsOthers } = options;
  if (share !== undefined && memory !== undefined) {
    throw new FarpoolError(
      "FARPOOL_USAGE",
      "-p and -m both say how large the GPUs are; one of them is enough",
      {
        hint: "-p is a share of each GPU, -m an amount of memory",
      },
    );
  }
  if (isServiceOnly && allowsOthers) {
    throw new FarpoolError("FARPOOL_USAGE", "--service-only and --allow-others contradict each other", {
      hint: "one of them is enough",
    });
  }
  return {
    count: options.count ?? 1,
    size: share ?? memory ?? WHOLE,
    filter: [...(options.filter ?? [])],
    hold: options.hold ?? "always",
    idleTimeoutMs: options.idleTimeout ?? null,
    serviceOnly: isServiceOnly,
    allowsOthers,
  };
}

function describe(client: Client, specification: ClientSpecification | null): string {
  const who = `client ${client.name} (key ${client.thumbprint}), account ${client.user}`;
  if (specification === null) return `${who}\nno specification of its service`;
  const { count, size, filter, hold, idleTimeoutMs, serviceOnly, allowsOthers } = specification;
  return [
    who,
    `its service may have ${formatRequest(count, size)}, held ${hold === "always" ? "always" : "on demand"}`,
    `servers: ${filter.length === 0 ? "all" : formatRequirements(filter)}`,
    `idle timeout: ${idleTimeoutMs === null ? "none" : formatDuration(idleTimeoutMs)}`,
    `other sessions: ${serviceOnly ? "none, service only" : allowsOthers ? "allowed" : "none beside the service's"}`,
  ].join("\n");
}
