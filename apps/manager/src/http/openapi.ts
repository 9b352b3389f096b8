import * as contract from "@farpool/contract";
import * as z from "zod";

/**
 * The OpenAPI 3.1 document of the API, made from the routes of the contract. Schemas that the contract exports
 * under a name are components under that name; all others are written where they are used.
 */

type Json = z.core.JSONSchema.BaseSchema;
type Direction = "input" | "output";

interface Parameter {
  readonly name: string;
  readonly in: "path" | "query";
  readonly required: boolean;
  readonly schema: Json;
}

interface Content {
  readonly content: Readonly<Record<string, { readonly schema: Json }>>;
}

export interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly tags: readonly string[];
  readonly security?: readonly [];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: Content & { readonly required: true };
  readonly responses: Readonly<Record<string, { readonly description: string } & Partial<Content>>>;
}

export interface OpenApiDocument {
  readonly openapi: "3.1.0";
  readonly info: { readonly title: string; readonly version: string; readonly description: string };
  readonly security: ReadonlyArray<Readonly<Record<string, readonly string[]>>>;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly securitySchemes: Readonly<Record<string, object>>;
    readonly schemas: Readonly<Record<string, Json>>;
  };
}

const REFERENCE = "#/components/schemas/";
const INPUT_SUFFIX = "Input";

export function openApiDocument(): OpenApiDocument {
  const all: Record<Direction, Record<string, Json>> = {
    input: convert("input"),
    output: convert("output"),
  };
  const names = [...namedSchemas().keys()];
  const answered = reachable(
    Object.keys(contract.ROUTES).map((route) => routePart(route, "response")),
    all.output,
  );
  // A request may leave out what has a default, say; where both directions agree there is one component.
  const differing = new Set(
    names.filter((name) => answered.has(name) && closure(name, all.input) !== closure(name, all.output)),
  );
  const renamed = rename(all.input, differing);
  const paths: Record<string, Record<string, Operation>> = {};
  for (const [name, route] of Object.entries(contract.ROUTES)) {
    const operation = operationOf(name as contract.RouteName, route, { input: renamed, output: all.output });
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation };
  }
  paths[contract.HOLD_PATH] = { get: holdOperation(all.output) };
  const components: Record<string, Json> = {};
  for (const name of names) {
    const [input, output] = [renamed[name] ?? {}, all.output[name] ?? {}];
    components[name] = answered.has(name) ? output : input;
    if (differing.has(name)) components[name + INPUT_SUFFIX] = input;
  }
  return {
    openapi: "3.1.0",
    info: {
      title: `${contract.PRODUCT_NAME} manager`,
      version: contract.VERSION,
      description:
        "Over the pool's Unix socket no token is needed; over HTTPS a machine may show its certificate instead. Answers may get more fields in later versions. Every failure is " +
        "a code, a sentence and a hint; codes are never renamed.",
    },
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: {
        token: {
          type: "http",
          scheme: "bearer",
          description: "an API token, a sign-in, or the content of the pool's file api-token",
        },
      },
      schemas: onlyUsed(components, paths),
    },
  };
}

/** Component names by the names under which the contract exports them: `sessionRequestSchema` is SessionRequest. */
function namedSchemas(): ReadonlyMap<string, z.ZodType> {
  const found = new Map<string, z.ZodType>();
  // Bundlers and test runners list a module's exports in orders of their own.
  for (const [name, value] of Object.entries(contract).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (!name.endsWith("Schema") || !(value instanceof z.ZodType)) continue;
    const short = name.slice(0, -"Schema".length);
    found.set(short.charAt(0).toUpperCase() + short.slice(1), value);
  }
  return found;
}

const routePart = (route: string, part: string): string => `route ${route} ${part}`;

function convert(io: Direction): Record<string, Json> {
  const registry = z.registry<{ id: string }>();
  const ids = new Map<z.ZodType, string>();
  const references = new Map<string, Json>();
  const add = (id: string, schema: z.ZodType): void => {
    const known = ids.get(schema);
    if (known !== undefined) {
      references.set(id, { $ref: REFERENCE + known });
      return;
    }
    ids.set(schema, id);
    registry.add(schema, { id });
  };
  for (const [id, schema] of namedSchemas()) add(id, schema);
  for (const [name, route] of Object.entries<contract.RouteSpec>(contract.ROUTES)) {
    for (const part of ["params", "query", "body", "response"] as const) {
      const schema = route[part];
      if (schema !== undefined) add(routePart(name, part), schema);
    }
  }
  const { schemas } = z.toJSONSchema(registry, {
    io,
    unrepresentable: "any",
    uri: (id) => REFERENCE + id,
    override: ({ jsonSchema }) => {
      delete jsonSchema.$schema;
      delete jsonSchema.$id;
      // Answers get more fields with time, and more fields of a request are ignored.
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
      // A page long, and the format says it.
      if (jsonSchema.format !== undefined) delete jsonSchema.pattern;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
    },
  });
  // zod writes these two behind the override's back.
  const own = Object.entries(schemas).map(([id, { $schema: _, $id: __, ...rest }]) => [id, rest] as const);
  return Object.fromEntries(resolveShared([...own, ...references]));
}

/** Parts of routes that two routes share are written in both: only what has a name is referred to. */
function resolveShared(entries: ReadonlyArray<readonly [string, Json]>): Array<readonly [string, Json]> {
  const schemas = new Map(entries);
  const resolve = (schema: Json): Json => {
    const name = schema.$ref?.slice(REFERENCE.length);
    return name === undefined || !name.includes(" ") ? schema : resolve(schemas.get(name) ?? {});
  };
  return entries.map(([name, schema]) => [name, resolve(schema)]);
}

/** A schema with all that it refers to, as text. */
function closure(name: string, schemas: Readonly<Record<string, Json>>): string {
  return JSON.stringify([...reachable([name], schemas)].toSorted().map((each) => [each, schemas[each]]));
}

/** The names themselves, and all that their schemas refer to. */
function reachable(names: readonly string[], schemas: Readonly<Record<string, Json>>): ReadonlySet<string> {
  const seen = new Set<string>();
  const waiting = [...names];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (seen.has(name)) continue;
    seen.add(name);
    waiting.push(...referencesOf(schemas[name]));
  }
  return seen;
}

function referencesOf(schema: unknown): string[] {
  const found: string[] = [];
  JSON.stringify(schema, (key, value: unknown) => {
    if (key === "$ref" && typeof value === "string") found.push(value.slice(REFERENCE.length));
    return value;
  });
  return found;
}

function rename(schemas: Record<string, Json>, names: ReadonlySet<string>): Record<string, Json> {
  const text = JSON.stringify(schemas, (key, value: unknown) => {
    if (key !== "$ref" || typeof value !== "string") return value;
    return names.has(value.slice(REFERENCE.length)) ? value + INPUT_SUFFIX : value;
  });
  return JSON.parse(text) as Record<string, Json>;
}

function onlyUsed(components: Readonly<Record<string, Json>>, paths: unknown): Record<string, Json> {
  const used = reachable([...referencesOf(paths), "ErrorBody"], components);
  return Object.fromEntries(Object.entries(components).filter(([name]) => used.has(name)));
}

const json = (schema: Json): Content => ({ content: { "application/json": { schema } } });
const FAILURE = {
  description: "A failure: a code, a sentence and a hint",
  ...json({ $ref: `${REFERENCE}ErrorBody` }),
};

function operationOf(
  name: contract.RouteName,
  route: contract.RouteSpec,
  schemas: Record<Direction, Record<string, Json>>,
): Operation {
  const parameters = [
    ...parametersOf("path", schemas.input[routePart(name, "params")]),
    ...parametersOf("query", schemas.input[routePart(name, "query")]),
  ];
  const body = schemas.input[routePart(name, "body")];
  const response = schemas.output[routePart(name, "response")] ?? {};
  return {
    operationId: name,
    summary: route.summary,
    tags: [tagOf(route.path)],
    ...(contract.ACCESS[name]?.includes("anyone") === true ? { security: [] as const } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: { required: true, ...json(body) } }),
    responses: { 200: { description: "Done", ...json(response) }, default: FAILURE },
  };
}

function holdOperation(schemas: Readonly<Record<string, Json>>): Operation {
  const id = schemas["SessionId"] === undefined ? {} : { $ref: `${REFERENCE}SessionId` };
  return {
    operationId: "holdSession",
    summary:
      "Lines of JSON, one per change, until the session ends; when the connection ends, so does the session",
    tags: [tagOf(contract.HOLD_PATH)],
    parameters: [{ name: "sessionId", in: "path", required: true, schema: id }],
    responses: {
      200: {
        description: "A line for each change",
        content: { "application/x-ndjson": { schema: { $ref: `${REFERENCE}HoldLine` } } },
      },
      default: FAILURE,
    },
  };
}

function parametersOf(place: Parameter["in"], schema: Json | undefined): Parameter[] {
  const properties = Object.entries(schema?.properties ?? {});
  return properties.map(([name, each]) => ({
    name,
    in: place,
    required: place === "path" || (schema?.required ?? []).includes(name),
    schema: typeof each === "boolean" ? {} : each,
  }));
}

/** What a path is about: `/v1/sessions/…` is about sessions. */
function tagOf(path: string): string {
  return /^\/v\d+\/([\w-]+)/.exec(path)?.[1] ?? "manager";
}
