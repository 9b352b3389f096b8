import { parseFilter } from "@farpool/contract";
import { expect, test } from "vitest";
import { matches } from "./filters.ts";
import { server } from "./testing/servers.ts";

const SERVER = server(3, [[], []], {
  gib: 80,
  gpu: { name: "NVIDIA H200", computeCapability: "9.0", multiprocessors: 132 },
  facts: {
    addresses: ["10.1.2.3", "gpu-03.example.org"],
    cudaVersion: "13.0",
    driverVersion: null,
    isSimulated: false,
    labels: { rack: "r7", zone: "West" },
  },
});

test.each([
  ["gpu.memory>=80GiB", true],
  ["gpu.memory>80GiB", false],
  ["gpu.memory<81920", false],
  ["device.phy-memory=81920", true],
  ["gpu.name=nvidia h200", true],
  ["gpu.name=*h2*", true],
  ["gpu.name=h2*", false],
  ["gpu.name=*a*a*", false],
  ["gpu.name!=*H100*", true],
  ["device.name == NVIDIA*", true],
  ["gpu.capability>=8.6", true],
  ["gpu.capability>=10", false],
  ["gpu.capability=9", true],
  ["gpu.multiprocessors>100", true],
  ["gpu.uuid=GPU-3-0", true],
  ["gpu.index=0", true],
  ["device.id!=0", false],
  ["server.name=gpu-03", true],
  ["server.hostname=gpu-*", true],
  ["server.addr=10.1.2.*", true],
  ["server.addr!=10.1.2.3", false],
  ["server.addr!=10.1.2.4", true],
  ["server.cuda-version>=12.8", true],
  ["server.driver-version>=1", false],
  ["server.has-rdma=false", true],
  ["server.has-rdma=true", false],
  ["server.simulated=false", true],
  ["server.label.rack=r7", true],
  ["server.labels.rack=r7", true],
  ["server.label.zone!=west", false],
  ["server.label.row=1", false],
])("%s is %s", (text, isMatch) => {
  const [gpu] = SERVER.gpus;
  expect(gpu !== undefined && matches(parseFilter(text), SERVER, gpu)).toBe(isMatch);
});

test.each([
  ["gpu.memory", "--filter takes KEY OPERATOR VALUE, not 'gpu.memory'"],
  ["gpu.memory>=", "--filter takes KEY OPERATOR VALUE, not 'gpu.memory>='"],
  ["gpu.colour=red", "--filter: there is no 'gpu.colour' to filter by"],
  ["gpu.name>=H100", "--filter 'gpu.name>=H100': gpu.name is equal or it is not"],
  ["gpu.memory>=much", "--filter 'gpu.memory>=much': the value has to be an amount of memory"],
  ["gpu.capability>=new", "--filter 'gpu.capability>=new': the value has to be a version"],
  ["gpu.index=-1", "--filter 'gpu.index=-1': the value has to be a whole number"],
  ["server.has-rdma=maybe", "--filter 'server.has-rdma=maybe': the value has to be true or false"],
  ["server.label.=x", "--filter: there is no 'server.label.' to filter by"],
  ["constructor=x", "--filter: there is no 'constructor' to filter by"],
])("%s is refused", (text, sentence) => {
  expect(() => parseFilter(text)).toThrow(sentence);
});
