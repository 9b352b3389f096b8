import { expect, test } from "vitest";
import { servicePlaces } from "./service.ts";

test("variables name other places, and empty ones do not", () => {
  const named = { FARPOOL_BROKER: "/tmp/b.sock", FARPOOL_SERVICE_CONFIG: "/tmp/c.yaml" };
  const empty = { FARPOOL_BROKER: "", FARPOOL_SERVICE_CONFIG: "", XDG_CONFIG_HOME: "" };

  expect(servicePlaces("system", named)).toMatchObject({
    socket: "/tmp/b.sock",
    configuration: "/tmp/c.yaml",
  });
  expect(servicePlaces("system", empty)).toMatchObject({
    socket: "/run/farpool-client/broker.sock",
    configuration: "/etc/farpool/client-service.yaml",
  });
  expect(servicePlaces("user", empty)).toEqual(servicePlaces("user", {}));
});
