import { expect, test } from "vitest";
import { accountName } from "../core/parse-values.ts";
import { forExecStart, forUnit } from "./quoting.ts";
import { managePolicy, serviceUnit, socketUnit } from "./units.ts";

const program = { node: "/opt/farpool/node", cli: "/opt/my farpool/100%.mjs" };
const places = (scope: "system" | "user") => ({
  scope,
  configuration: "",
  state: "",
  log: "",
  socket:
    scope === "system" ? "/run/farpool-client/broker.sock" : "/run/user/1000/farpool-client/broker.sock",
});

test("the socket is systemd's, open to all on a machine and to its owner alone for a person", () => {
  expect(socketUnit(places("system"))).toContain("ListenStream=/run/farpool-client/broker.sock\n");
  expect(socketUnit(places("system"))).toContain("SocketMode=0666\n");
  expect(socketUnit(places("user"))).toContain("ListenStream=%t/farpool-client/broker.sock\n");
  expect(socketUnit(places("user"))).toContain("SocketMode=0600\n");
});

test("the service is started by what is installed, and not again when its file is wrong", () => {
  const unit = serviceUnit("system", program);

  expect(unit).toContain(
    'ExecStart=/opt/farpool/node "/opt/my farpool/100%%.mjs" internal client-service system\n',
  );
  expect(unit).toContain("Type=notify\n");
  expect(unit).toContain("RestartPreventExitStatus=64 77\n");
  expect(unit).toContain("CapabilityBoundingSet=\n");
  expect(serviceUnit("user", program)).not.toContain("CapabilityBoundingSet");
});

test("members of a group may restart it, nothing else", () => {
  expect(managePolicy("ops")).toContain('action.lookup("verb") == "restart"');
  expect(managePolicy("ops")).toContain('subject.isInGroup("ops")');
});

test("a path in a unit is one word, whatever is in it", () => {
  expect(forExecStart("/opt/farpool/node")).toBe("/opt/farpool/node");
  expect(forExecStart(String.raw`/opt/a "b" $C\100%`)).toBe(String.raw`"/opt/a \"b\" $$C\\100%%"`);
  expect(forUnit("LD_LIBRARY_PATH=/opt/my $farpool")).toBe('"LD_LIBRARY_PATH=/opt/my $farpool"');
});

test("what is no name of a group does not reach the policy", () => {
  expect(() => accountName("--manage-group")('ops") || ("')).toThrow(
    "--manage-group takes a name of this machine's",
  );
  expect(accountName("--manage-group")("gpu-ops")).toBe("gpu-ops");
});
