import {
  policyFieldsSchema,
  policyScopeSchema,
  type PolicyFields,
  type PolicyScope,
} from "@farpool/contract";
import { expect, test } from "vitest";
import { resolvePolicies, type Subject } from "./resolve.ts";

const KEY = "wVaz6FHWfSL_sZtCEGZ5Ipgm4XQzVW9LpJRYqkY2bvQ";
const subject: Subject = { user: "dev1@ws-17", groups: ["vision", "night"], client: KEY, project: "apollo" };
type Setting = PolicyFields;

function scope(text: string): PolicyScope {
  const [kind = "", name = ""] = text.split(" ");
  return policyScopeSchema.parse({ kind, name });
}
function policies(all: Readonly<Record<string, Setting>>) {
  return Object.entries(all).map(([name, fields]): { scope: PolicyScope; fields: PolicyFields } => ({
    scope: scope(name),
    fields: policyFieldsSchema.parse(fields),
  }));
}
const gpus = (value: number | null, hard = false): Setting => ({ gpus: { value, hard } });
const of = (all: Readonly<Record<string, Setting>>, who: Partial<Subject> = {}) =>
  resolvePolicies(policies(all), { ...subject, ...who });

test("nothing set is without limit, from nobody", () => {
  expect(of({}).gpus).toEqual({ value: null, origin: null, hard: false, overruled: [] });
  expect(of({}).serviceOnly.value).toBe(false);
});

test.each(["pool", "project apollo", `client ${KEY}`, "group vision", "user dev1@ws-17"])(
  "%s wins over all that are less specific, field by field",
  (winner) => {
    const order = ["pool", "project apollo", `client ${KEY}`, "group vision", "user dev1@ws-17"];
    const below = order.slice(0, order.indexOf(winner) + 1);
    const all = Object.fromEntries(below.map((name, index) => [name, gpus(10 + index)]));
    const resolved = of({ ...all, "user somebody@else": gpus(1), "group other": gpus(2) });
    expect(resolved.gpus).toMatchObject({ value: 9 + below.length, origin: scope(winner), hard: false });
    expect(resolved.gpus.overruled.map(({ origin }) => origin)).toEqual(below.slice(0, -1).map(scope));
    expect(resolved.sessions.origin).toBeNull();
  },
);

test("a hard field is narrowed by more specific ones, never widened", () => {
  expect(of({ pool: gpus(4, true), "user dev1@ws-17": gpus(2) }).gpus).toMatchObject({
    value: 2,
    origin: scope("user dev1@ws-17"),
    hard: false,
  });
  expect(of({ pool: gpus(4, true), "user dev1@ws-17": gpus(8) }).gpus).toEqual({
    value: 4,
    origin: scope("pool"),
    hard: true,
    overruled: [{ origin: scope("user dev1@ws-17"), value: 8, why: "wider than a hard policy" }],
  });
  expect(of({ pool: gpus(4, true), "user dev1@ws-17": gpus(null) }).gpus.value).toBe(4);
});

test("what lies between a hard field and the user binds nobody when it is not hard itself", () => {
  const all = { pool: gpus(4, true), "project apollo": gpus(1), "user dev1@ws-17": gpus(3) };
  expect(of(all).gpus).toMatchObject({ value: 3, origin: scope("user dev1@ws-17") });
  const wider = { ...all, "user dev1@ws-17": gpus(9) };
  expect(of(wider).gpus).toMatchObject({
    value: 4,
    origin: scope("pool"),
    overruled: [
      { origin: scope("project apollo"), value: 1 },
      { origin: scope("user dev1@ws-17"), value: 9 },
    ].map((each) => expect.objectContaining(each)),
  });
});

test("the narrowest of several hard ones holds", () => {
  const all = { pool: gpus(2, true), "project apollo": gpus(8, true), [`client ${KEY}`]: gpus(1, true) };
  expect(of({ ...all, "user dev1@ws-17": gpus(5) }).gpus).toMatchObject({
    value: 1,
    origin: scope(`client ${KEY}`),
    hard: true,
  });
  expect(of({ pool: gpus(2, true), "project apollo": gpus(8, true) }).gpus).toMatchObject({
    value: 2,
    origin: scope("pool"),
  });
});

test("of two groups the more generous holds, unless one is hard", () => {
  expect(of({ "group vision": gpus(2), "group night": gpus(6) }).gpus).toMatchObject({
    value: 6,
    origin: scope("group night"),
    overruled: [{ origin: scope("group vision"), why: "stricter than that of another group" }],
  });
  expect(of({ "group vision": gpus(2), "group night": gpus(null) }).gpus.value).toBeNull();
  expect(of({ "group vision": gpus(2, true), "group night": gpus(6) }).gpus).toMatchObject({
    value: 2,
    hard: true,
  });
});

test("servers are narrowed to those that both allow, a yes of service only stays", () => {
  const servers = (text: string, hard = false): Setting => ({
    servers: { value: [{ label: text.split("=")[0] ?? "", values: [text.split("=")[1] ?? ""] }], hard },
  });
  expect(of({ pool: servers("zone=a", true), "user dev1@ws-17": servers("rack=7") }).servers.value).toEqual([
    { label: "zone", values: ["a"] },
    { label: "rack", values: ["7"] },
  ]);
  expect(of({ pool: servers("zone=a"), "user dev1@ws-17": servers("rack=7") }).servers.value).toEqual([
    { label: "rack", values: ["7"] },
  ]);
  const only = (value: boolean, hard = false): Setting => ({ serviceOnly: { value, hard } });
  expect(of({ [`client ${KEY}`]: only(true, true), "user dev1@ws-17": only(false) }).serviceOnly.value).toBe(
    true,
  );
  expect(of({ [`client ${KEY}`]: only(true), "user dev1@ws-17": only(false) }).serviceOnly.value).toBe(false);
});

test("whoever has no user, client or project is bound by the others", () => {
  const all = { pool: gpus(4), "user dev1@ws-17": gpus(1), "project apollo": gpus(2) };
  const nobody = { user: null, groups: [], client: null, project: null };
  expect(of(all, nobody).gpus).toMatchObject({ value: 4, origin: scope("pool") });
});

test("in every combination of hard and soft, no hard bound of anybody less specific is exceeded", () => {
  const order = ["pool", "project apollo", `client ${KEY}`, "group vision", "user dev1@ws-17"];
  const options = [undefined, gpus(1), gpus(3), gpus(2, true), gpus(null), gpus(null, true)];
  for (let combination = 0; combination < options.length ** order.length; combination += 1) {
    const all: Record<string, Setting> = {};
    let rest = combination;
    for (const name of order) {
      const option = options[rest % options.length];
      rest = Math.floor(rest / options.length);
      if (option !== undefined) all[name] = option;
    }
    const { value } = of(all).gpus;
    for (const { gpus: setting } of Object.values(all)) {
      if (setting?.hard !== true || setting.value === null) continue;
      expect(value).not.toBeNull();
      expect(value).toBeLessThanOrEqual(setting.value);
    }
    const [last = ""] = order.toReversed().filter((name) => all[name] !== undefined);
    const isBound = Object.values(all).some((each) => each.gpus?.hard === true && each.gpus.value !== null);
    expect([isBound, value]).toEqual([isBound, isBound ? value : (all[last]?.gpus?.value ?? null)]);
  }
});
