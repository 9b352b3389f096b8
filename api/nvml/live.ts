import { input, inout, output } from "../model.ts";
import { answered, nvmlNoun, type NvmlNoun } from "./model.ts";

const device = input("device", "nvmlDevice_t");
const number = (name: string) => output(name, "unsigned int *");
const state = (name: string) => output(name, "nvmlEnableState_t *");

/** What changes: memory, use, health. */
export const live: NvmlNoun = nvmlNoun("live values", [
  answered("nvmlDeviceGetMemoryInfo", [device, output("memory", "nvmlMemory_t *")]),
  answered("nvmlDeviceGetMemoryInfo_v2", [device, inout("memory", "nvmlMemory_v2_t *")]),
  answered("nvmlDeviceGetUtilizationRates", [device, output("utilization", "nvmlUtilization_t *")]),
  answered("nvmlDeviceGetEncoderUtilization", [device, number("utilization"), number("samplingPeriodUs")]),
  answered("nvmlDeviceGetDecoderUtilization", [device, number("utilization"), number("samplingPeriodUs")]),
  answered("nvmlDeviceGetTemperature", [
    device,
    input("sensorType", "nvmlTemperatureSensors_t"),
    number("temp"),
  ]),
  answered("nvmlDeviceGetTemperatureV", [device, inout("temperature", "nvmlTemperature_t *")]),
  answered("nvmlDeviceGetComputeMode", [device, output("mode", "nvmlComputeMode_t *")]),
  answered("nvmlDeviceGetDisplayMode", [device, state("display")]),
  answered("nvmlDeviceGetDisplayActive", [device, state("isActive")]),
  answered("nvmlDeviceGetAccountingMode", [device, state("mode")]),
  answered("nvmlDeviceGetEccMode", [device, state("current"), state("pending")]),
  answered("nvmlDeviceGetTotalEccErrors", [
    device,
    input("errorType", "nvmlMemoryErrorType_t"),
    input("counterType", "nvmlEccCounterType_t"),
    output("eccCounts", "unsigned long long *"),
  ]),
  answered("nvmlDeviceGetCurrentClocksEventReasons", [
    device,
    output("clocksEventReasons", "unsigned long long *"),
  ]),
  answered("nvmlDeviceGetCurrentClocksThrottleReasons", [
    device,
    output("clocksThrottleReasons", "unsigned long long *"),
  ]),
  answered("nvmlDeviceGetSupportedEventTypes", [device, output("eventTypes", "unsigned long long *")]),
  answered("nvmlDeviceGetFieldValues", [
    device,
    input("valuesCount", "int"),
    inout("values", "nvmlFieldValue_t *", { length: "valuesCount" }),
  ]),
]);

const running = (kind: string) => {
  const call = `nvmlDeviceGet${kind}RunningProcesses`;
  const list = (type: string) => [
    device,
    inout("infoCount", "unsigned int *"),
    output("infos", type, { length: "infoCount" }),
  ];
  return [
    answered(call, list("nvmlProcessInfo_v1_t *")),
    answered(`${call}_v2`, list("nvmlProcessInfo_v2_t *")),
    answered(`${call}_v3`, list("nvmlProcessInfo_t *")),
  ];
};

/** Only processes of the session. */
export const processes: NvmlNoun = nvmlNoun("processes", [
  ...running("Compute"),
  ...running("Graphics"),
  ...running("MPSCompute"),
  answered("nvmlDeviceGetProcessUtilization", [
    device,
    output("utilization", "nvmlProcessUtilizationSample_t *", { length: "processSamplesCount" }),
    inout("processSamplesCount", "unsigned int *"),
    input("lastSeenTimeStamp", "unsigned long long"),
  ]),
]);
