"""What nvidia-ml-py says of the GPUs, a line of JSON each. `probe N` only starts, counts and ends NVML, N times."""

import json
import sys

import pynvml


def value(call, *arguments):
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        return str(error)


def report(device):
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    second = pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
    pci = pynvml.nvmlDeviceGetPciInfo(device)
    return {
        "name": pynvml.nvmlDeviceGetName(device),
        "uuid": pynvml.nvmlDeviceGetUUID(device),
        "pci": pci.busIdLegacy,
        "longPci": pci.busId,
        "index": pynvml.nvmlDeviceGetIndex(device),
        "memory": memory.total,
        "used": memory.used,
        "free": memory.free,
        "agrees": (second.total, second.used, second.free) == (memory.total, memory.used, memory.free),
        "capability": "%d.%d" % pynvml.nvmlDeviceGetCudaComputeCapability(device),
        "cores": pynvml.nvmlDeviceGetNumGpuCores(device),
        "busy": value(lambda: pynvml.nvmlDeviceGetUtilizationRates(device).gpu),
        "temperature": value(pynvml.nvmlDeviceGetTemperature, device, pynvml.NVML_TEMPERATURE_GPU),
        "power": value(pynvml.nvmlDeviceGetPowerUsage, device),
        "found": pynvml.nvmlDeviceGetIndex(
            pynvml.nvmlDeviceGetHandleByPciBusId(pci.busId)
        ) == pynvml.nvmlDeviceGetIndex(
            pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(device))
        ),
        "processes": [
            {"pid": process.pid, "used": process.usedGpuMemory}
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(device)
        ],
    }


def probe(times):
    for _ in range(times):
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0))
        pynvml.nvmlShutdown()
    print(count)


if sys.argv[1:2] == ["probe"]:
    probe(int(sys.argv[2]))
else:
    pynvml.nvmlInit()
    for number in range(pynvml.nvmlDeviceGetCount()):
        print(json.dumps(report(pynvml.nvmlDeviceGetHandleByIndex(number))))
    print(json.dumps({
        "driver": pynvml.nvmlSystemGetDriverVersion(),
        "cuda": pynvml.nvmlSystemGetCudaDriverVersion(),
        "nvml": pynvml.nvmlSystemGetNVMLVersion(),
    }))
    pynvml.nvmlShutdown()
