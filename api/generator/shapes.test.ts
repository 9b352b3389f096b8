import { describe, expect, it } from "vitest";

import { creates, input, manual, oneWay, output, waiting } from "../model.ts";
import { loadSchema } from "./schema.ts";
import { shapeOf, shapesOf } from "./shapes.ts";

describe("the shape of a call on the wire", () => {
  it("is derived from the parameters of an async call", () => {
    const call = oneWay("cuThingMake_v2", { id: 300, since: 2000 }, [
      creates("phThing", "CUevent *"),
      input("size", "size_t"),
      input("hfunc", "CUfunction"),
    ]);
    expect(shapeOf(call)).toEqual({
      name: "CuThingMakeV2",
      symbol: "cuThingMake_v2",
      id: 300,
      request: [
        { name: "phThing", type: "new Event" },
        { name: "size", type: "u64" },
        { name: "hfunc", type: "u64" },
      ],
      reply: [],
    });
  });

  it("puts the out-values of a sync call into the reply", () => {
    const call = waiting("cuThingAsk", { id: 300, since: 2000 }, [
      output("pMilliseconds", "float *"),
      input("type", "CUlimit"),
    ]);
    expect(shapeOf(call)?.request).toEqual([{ name: "r#type", type: "i32" }]);
    expect(shapeOf(call)?.reply).toEqual([{ name: "pMilliseconds", type: "f32" }]);
  });

  it("refuses to send a pointer", () => {
    const call = oneWay("cuThingCopy", { id: 300, since: 2000 }, [input("source", "const void *")]);
    expect(() => shapeOf(call)).toThrow("cuThingCopy.source is a pointer that no async call can send");
  });

  it("is what a manual call declares", () => {
    const wire = { request: { sourceAddress: "u64", data: "bytes" }, reply: { data: "rest" } };
    const shape = shapeOf(manual("cuThingCopy", { id: 300, since: 2000, wire }, []));
    expect(shape?.request).toEqual([
      { name: "source_address", type: "u64" },
      { name: "data", type: "bytes" },
    ]);
  });

  it("refuses a declared field of an unknown type", () => {
    const call = manual("cuThingCopy", { id: 300, since: 2000, wire: { request: { data: "blob" } } }, []);
    expect(() => shapeOf(call)).toThrow('field data has the unknown type "blob"');
  });

  it("exists for every call that travels, once", () => {
    const ids = shapesOf(loadSchema()).map((shape) => shape.id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});
