import type { ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  policyFieldNames,
  policyScopeSchema,
  type LabelRequirement,
  type Policy,
  type PolicyExplanation,
  type PolicyFieldName,
  type PolicyFields,
  type PolicyScope,
} from "@farpool/contract";
import {
  FIELD_OPTIONS,
  FIELD_TITLES,
  formatFieldValue,
  formatScope,
  type ClientNames,
} from "@farpool/policies";
import { print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";
import { findClient } from "./admin.ts";

interface ScopeOptions {
  readonly user: string | undefined;
  readonly group: string | undefined;
  readonly client: string | undefined;
  readonly project: string | undefined;
  readonly isPool: boolean;
}

export async function list(isJson: boolean): Promise<number> {
  const { answer, names } = await withPool(async (client) => ({
    answer: await client.call("listPolicies", {}),
    names: await clientNames(client),
  }));
  if (isJson) printJson(answer);
  else
    print(
      answer.policies.length === 0
        ? "no policies: everybody may have everything"
        : policyTable(answer.policies, names),
    );
  return 0;
}

function policyTable(policies: readonly Policy[], names: ClientNames): string {
  const rows = policies.flatMap(({ scope, fields }) =>
    policyFieldNames.flatMap((field) => {
      const setting = fields[field];
      if (setting === undefined) return [];
      const value = formatFieldValue(field, setting.value);
      return [[formatScope(scope, names), FIELD_OPTIONS[field], value, setting.hard ? "hard" : "-"]];
    }),
  );
  return table(["FOR", "FIELD", "VALUE", "HARD"], rows);
}

interface SetOptions extends ScopeOptions {
  readonly isJson: boolean;
  readonly gpus: Limit | undefined;
  readonly memory: Limit | undefined;
  readonly sessions: Limit | undefined;
  readonly priority: Limit | undefined;
  readonly idleTimeout: Limit | undefined;
  readonly maxDuration: Limit | undefined;
  readonly wait: Limit | undefined;
  readonly servers: readonly LabelRequirement[] | undefined;
  readonly allServers: boolean;
  readonly serviceOnly: boolean | undefined;
  readonly isHard: boolean;
}

/** Null: without limit. */
interface Limit {
  readonly limit: number | null;
}

export async function set(options: SetOptions): Promise<number> {
  const fields = fieldsOf(options);
  if (Object.keys(fields).length === 0) {
    throw new FarpoolError("FARPOOL_USAGE", "no field is named that is to be set", {
      hint: "farpool admin policies set --pool --gpus 4",
    });
  }
  const { policy, names } = await withPool(async (client) => {
    const scope = await scopeOf(client, options);
    const answer = await client.call("setPolicy", { body: { scope, fields } });
    return { policy: answer, names: await clientNames(client) };
  });
  if (options.isJson) printJson(policy);
  else print(policyTable([policy], names));
  return 0;
}

function fieldsOf(options: SetOptions): PolicyFields {
  const { isHard: hard, servers, allServers, serviceOnly } = options;
  if (servers !== undefined && allServers) {
    throw new FarpoolError("FARPOOL_USAGE", "--servers and --all-servers contradict each other", {
      hint: "one of them is enough",
    });
  }
  const number = (option: Limit | undefined) =>
    option === undefined ? undefined : { value: option.limit, hard };
  const fields: Record<PolicyFieldName, PolicyFields[PolicyFieldName]> = {
    gpus: number(options.gpus),
    memoryMib: number(options.memory),
    sessions: number(options.sessions),
    priority: number(options.priority),
    idleTimeoutMs: number(options.idleTimeout),
    maxDurationMs: number(options.maxDuration),
    waitMs: number(options.wait),
    servers: allServers
      ? { value: null, hard }
      : servers === undefined
        ? undefined
        : { value: [...servers], hard },
    serviceOnly: serviceOnly === undefined ? undefined : { value: serviceOnly, hard },
  };
  return Object.fromEntries(Object.entries(fields).filter(([, setting]) => setting !== undefined));
}

export async function remove(options: ScopeOptions, fields: readonly PolicyFieldName[]): Promise<number> {
  const { scope, names } = await withPool(async (client) => {
    const found = await scopeOf(client, options);
    const body = { scope: found, fields: fields.length === 0 ? null : [...fields] };
    await client.call("removePolicy", { body });
    return { scope: found, names: await clientNames(client) };
  });
  const what =
    fields.length === 0 ? "the policy" : fields.map((field) => `'${FIELD_TITLES[field]}'`).join(", ");
  say(`${what} of ${formatScope(scope, names)} is removed`);
  return 0;
}

interface ExplainOptions {
  readonly isJson: boolean;
  readonly user: string | undefined;
  readonly client: string | undefined;
  readonly project: string | undefined;
}

export async function explain({ isJson, user, client: named, project }: ExplainOptions): Promise<number> {
  const answer = await withPool(async (client) => {
    const key = named === undefined ? undefined : (await clientNamed(client, named)).thumbprint;
    const query = {
      ...(user !== undefined && { user }),
      ...(key !== undefined && { client: key }),
      ...(project !== undefined && { project }),
    };
    return client.call("explainPolicy", { query });
  });
  if (isJson) printJson(answer);
  else print(explanation(answer));
  return 0;
}

function explanation({
  user,
  source,
  client,
  clientName,
  project,
  groups,
  fields,
}: PolicyExplanation): string {
  const who = [
    user === null ? undefined : `user ${user} (${source ?? "unknown"})`,
    groups.length === 0 ? undefined : `in ${groups.map((group) => `group ${group}`).join(", ")}`,
    client === null ? undefined : `client ${clientName ?? "?"} (key ${client})`,
    project === null ? undefined : `project ${project}`,
  ].filter((part) => part !== undefined);
  const rows = fields.map(({ field, value, originText, whoCanChangeIt }) => [
    FIELD_OPTIONS[field],
    value,
    originText,
    whoCanChangeIt,
  ]);
  const overruled = fields.flatMap(({ field, overruled: others }) =>
    others.map(
      ({ origin, value, why }) =>
        `${FIELD_OPTIONS[field]} ${value} of ${formatScope(origin)} does not hold: ${why}`,
    ),
  );
  return [
    who.length === 0 ? "everybody" : who.join(", "),
    "",
    table(["FIELD", "VALUE", "FROM", "WHO CAN CHANGE IT"], rows),
    ...(overruled.length === 0 ? [] : ["", ...overruled]),
  ].join("\n");
}

async function scopeOf(client: ManagerClient, options: ScopeOptions): Promise<PolicyScope> {
  const { user, group, client: named, project, isPool } = options;
  const given = [
    ...(user === undefined ? [] : [{ kind: "user", name: user }]),
    ...(group === undefined ? [] : [{ kind: "group", name: group }]),
    ...(named === undefined ? [] : [{ kind: "client", name: named }]),
    ...(project === undefined ? [] : [{ kind: "project", name: project }]),
    ...(isPool ? [{ kind: "pool", name: "" }] : []),
  ];
  const [only, ...others] = given;
  if (only === undefined || others.length > 0) {
    const what = only === undefined ? "nobody is named" : `${given.length} are named`;
    throw new FarpoolError(
      "FARPOOL_USAGE",
      `a policy is for one user, group, client, project or the pool: ${what}`,
      {
        hint: "one of --user, --group, --client, --project and --pool",
      },
    );
  }
  const name = only.kind === "client" ? (await clientNamed(client, only.name)).thumbprint : only.name;
  const scope = policyScopeSchema.safeParse({ kind: only.kind, name });
  if (scope.success) return scope.data;
  throw new FarpoolError(
    "FARPOOL_USAGE",
    `--${only.kind}: ${scope.error.issues[0]?.message ?? "it is not understood"}`,
    {
      hint: null,
    },
  );
}

async function clientNamed(client: ManagerClient, named: string) {
  return findClient((await client.call("listClients", {})).clients, named);
}

async function clientNames(client: ManagerClient): Promise<ClientNames> {
  const { clients } = await client.call("listClients", {});
  return new Map(clients.map(({ thumbprint, name }) => [thumbprint, name]));
}
