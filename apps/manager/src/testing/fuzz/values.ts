import type { Random } from "./random.ts";

/** Values for a JSON schema: first such as it allows, then with something that it does not. */

export type Schema = Readonly<Record<string, unknown>>;

export interface Values {
  valid(schema: unknown, name: string): unknown;
  /** The same with one to three places spoilt. */
  spoil(value: unknown): unknown;
  hostileText(): string;
}

/** Ids of what there is, by the name of the field or component that holds such: others find nothing anyway. */
export type Known = (name: string) => string | undefined;

const MOST_ITEMS = 3;

export function createValues(
  random: Random,
  components: Readonly<Record<string, unknown>>,
  known: Known,
): Values {
  function valid(given: unknown, name: string): unknown {
    const schema = asSchema(given);
    const reference = schema["$ref"];
    if (typeof reference === "string") {
      const component = reference.split("/").at(-1) ?? "";
      return known(component) ?? valid(components[component], component);
    }
    const choices = listOf(schema["anyOf"] ?? schema["oneOf"] ?? schema["enum"]);
    if (choices.length > 0) {
      const choice = choices[random.below(choices.length)];
      return schema["enum"] === undefined ? valid(choice, name) : choice;
    }
    if ("const" in schema) return schema["const"];
    switch ([schema["type"]].flat()[0]) {
      case "object":
        return object(schema);
      case "array":
        return Array.from({ length: random.below(MOST_ITEMS + 1) || 1 }, () => valid(schema["items"], name));
      case "integer":
      case "number":
        return number(schema, name);
      case "boolean":
        return random.oneIn(2);
      case "null":
        return null;
      default:
        return known(name) ?? text(schema);
    }
  }

  function object(schema: Schema): Record<string, unknown> {
    const required = listOf(schema["required"]);
    const entries = Object.entries(asSchema(schema["properties"])).filter(
      ([name]) => required.includes(name) || random.oneIn(2),
    );
    return Object.fromEntries(entries.map(([name, each]) => [name, valid(each, name)]));
  }

  function number(schema: Schema, name: string): number {
    // Nobody waits for a long poll here.
    if (name === "timeoutMs") return random.below(40);
    const least = typeof schema["minimum"] === "number" ? schema["minimum"] : 0;
    const most = typeof schema["maximum"] === "number" ? schema["maximum"] : least + 10;
    const spread = Math.min(most - least, random.oneIn(10) ? most - least : 4);
    return schema["type"] === "integer"
      ? Math.floor(least + random.next() * spread)
      : least + random.next() * spread;
  }

  function text(schema: Schema): string {
    const pattern = schema["pattern"];
    switch (schema["format"]) {
      case "date-time":
        return new Date(1.7e12 + random.below(1e9) * 100).toISOString();
      case "uuid":
        return `${hex(8)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(12)}`;
      default:
    }
    if (typeof pattern === "string") return fromPattern(pattern);
    return `text-${hex(4)}`;
  }

  /** Not every pattern: those of the contract, which are classes, counts and fixed text. */
  function fromPattern(pattern: string): string {
    const digits = /\[0-9a-f\]\{(\d+)\}/.exec(pattern)?.[1];
    if (digits !== undefined) return hex(Number(digits));
    if (pattern.includes("{42}")) return `${"A".repeat(38)}${hex(4)}A`;
    if (pattern.startsWith("^s-")) return `s-${hex(8)}`;
    if (pattern.includes(String.raw`\.`)) return "a.b.c";
    return pattern.startsWith("^[A-Za-z0-9+/]") ? "QUJD" : `name-${hex(3)}`;
  }

  const hex = (count: number): string =>
    Array.from({ length: count }, () => random.below(16).toString(16)).join("");

  const hostileText = (): string => random.pick(HOSTILE_TEXTS)(random);

  function hostile(): unknown {
    return random.pick(HOSTILE)(random, hostileText);
  }

  function spoilOnce(value: unknown): unknown {
    // Deep in rather than at the top: most of what can go wrong is in there.
    if (Array.isArray(value) && value.length > 0 && !random.oneIn(4)) {
      if (random.oneIn(8)) return Array.from({ length: 5_000 }, () => value[0] as unknown);
      return value.with(random.below(value.length), spoilOnce(value[random.below(value.length)]));
    }
    if (typeof value === "object" && value !== null && !Array.isArray(value) && !random.oneIn(6)) {
      const entries = Object.entries(value);
      const chosen = random.below(entries.length + 1);
      if (chosen === entries.length) return { ...value, [hostileText()]: hostile() };
      if (random.oneIn(5)) return Object.fromEntries(entries.filter((_, index) => index !== chosen));
      return Object.fromEntries(
        entries.map(([name, each], index) => [name, index === chosen ? spoilOnce(each) : each]),
      );
    }
    return hostile();
  }

  return {
    valid,
    hostileText,
    spoil(value) {
      let spoilt = value;
      for (let times = 1 + random.below(3); times > 0; times -= 1) spoilt = spoilOnce(spoilt);
      return spoilt;
    },
  };
}

const HOSTILE_TEXTS: readonly [(random: Random) => string, ...Array<(random: Random) => string>] = [
  () => "",
  () => "\0",
  () => "a\0b",
  () => "\u{D800}",
  () => "\u{FFFE}\u{202E}\u{1F4A9}",
  () => "'; drop table sessions; --",
  () => "__proto__",
  () => "constructor",
  () => "../../../../etc/passwd",
  () => "%s%n${jndi:ldap://x}{{7*7}}",
  () => "\u001B[31m\r\nx-injected: 1",
  () => "1e999",
  () => "-0",
  () => "9".repeat(400),
  (random) => "x".repeat(1 << (4 + random.below(13))),
  (random) => String.fromCodePoint(...Array.from({ length: 20 }, () => random.below(0xd7_ff) + 1)),
];

type Hostile = (random: Random, text: () => string) => unknown;
const HOSTILE: readonly [Hostile, ...Hostile[]] = [
  () => null,
  () => true,
  () => 0,
  () => -1,
  () => 0.5,
  () => 1e308,
  () => 2 ** 53,
  () => -(2 ** 63),
  () => [],
  () => ({}),
  () => [[]],
  () => ({ toString: null, valueOf: 1, hasOwnProperty: 2, length: -1 }),
  (_, text) => text(),
  (_, text) => [text(), text()],
  (_, text) => ({ [text()]: text() }),
];

const asSchema = (value: unknown): Schema =>
  typeof value === "object" && value !== null ? (value as Schema) : {};
const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
