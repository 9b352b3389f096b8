import { describe, expect, it } from "vitest";

import { calls } from "../cuda/index.ts";
import { input, local, manual, oneWay } from "../model.ts";
import { loadSchema } from "./schema.ts";

const first = oneWay("cuFirst", { id: 300, since: 2000 }, [input("value", "int")]);

describe("loading a description", () => {
  it("accepts ours", () => {
    expect(loadSchema().calls).toHaveLength(calls.length);
  });

  it("sorts the symbols as Rust's binary search needs them", () => {
    const names = loadSchema().symbols.map((symbol) => symbol.name);
    expect(names).toEqual(names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
  });

  it("refuses an id that is taken", () => {
    const second = local("cuSecond", { id: 300, since: 2000 }, []);
    expect(() => loadSchema([first, second])).toThrow("cuSecond has id 300, which cuFirst has already");
  });

  it("refuses an id of the protocol", () => {
    const call = local("cuSecond", { id: 3, since: 2000 }, []);
    expect(() => loadSchema([call])).toThrow("expected 16 to 65535");
  });

  it("refuses a symbol that is described twice", () => {
    expect(() => loadSchema([first, { ...first, id: 301 }])).toThrow("cuFirst is described twice");
  });

  it("refuses an alias of nothing", () => {
    const call = manual("cuSecond", { id: 301, since: 2000, alias: "cuThird" }, []);
    expect(() => loadSchema([call])).toThrow("cuSecond refers to cuThird");
  });

  it("refuses a length that is no parameter", () => {
    const call = local("cuSecond", { id: 301, since: 2000 }, [input("name", "char *", { length: "len" })]);
    expect(() => loadSchema([call])).toThrow("cuSecond.name has length len");
  });

  it("refuses a type that nobody declared", () => {
    const call = local("cuSecond", { id: 301, since: 2000 }, [input("thing", "CUthing")]);
    expect(() => loadSchema([call])).toThrow('unknown C type "CUthing"');
  });

  it("refuses a wire shape on a call that is not manual", () => {
    const call = oneWay("cuSecond", { id: 301, since: 2000, wire: { request: {} } }, []);
    expect(() => loadSchema([call])).toThrow("only manual calls do");
  });
});
