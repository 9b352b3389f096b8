import { input, manual, noun, output, unsupported, waiting, type Noun } from "../model.ts";

export const occupancy: Noun = noun("occupancy", [
  waiting("cuOccupancyAvailableDynamicSMemPerBlock", { id: 0x0e00, since: 10020, remembered: true }, [
    output("dynamicSmemSize", "size_t *"),
    input("func", "CUfunction"),
    input("numBlocks", "int"),
    input("blockSize", "int"),
  ]),
  manual("cuOccupancyMaxActiveBlocksPerMultiprocessor", { id: 0x0e01, since: 6050 }, [
    output("numBlocks", "int *"),
    input("func", "CUfunction"),
    input("blockSize", "int"),
    input("dynamicSMemSize", "size_t"),
  ]),
  manual("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", { id: 0x0e02, since: 7000 }, [
    output("numBlocks", "int *"),
    input("func", "CUfunction"),
    input("blockSize", "int"),
    input("dynamicSMemSize", "size_t"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuOccupancyMaxActiveClusters", { id: 0x0e03, since: 11070 }, [
    output("numClusters", "int *"),
    input("func", "CUfunction"),
    input("config", "const CUlaunchConfig *"),
  ]),
  unsupported("cuOccupancyMaxPotentialBlockSize", { id: 0x0e04, since: 6050 }, [
    output("minGridSize", "int *"),
    output("blockSize", "int *"),
    input("func", "CUfunction"),
    input("blockSizeToDynamicSMemSize", "CUoccupancyB2DSize"),
    input("dynamicSMemSize", "size_t"),
    input("blockSizeLimit", "int"),
  ]),
  unsupported("cuOccupancyMaxPotentialBlockSizeWithFlags", { id: 0x0e05, since: 7000 }, [
    output("minGridSize", "int *"),
    output("blockSize", "int *"),
    input("func", "CUfunction"),
    input("blockSizeToDynamicSMemSize", "CUoccupancyB2DSize"),
    input("dynamicSMemSize", "size_t"),
    input("blockSizeLimit", "int"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuOccupancyMaxPotentialClusterSize", { id: 0x0e06, since: 11070 }, [
    output("clusterSize", "int *"),
    input("func", "CUfunction"),
    input("config", "const CUlaunchConfig *"),
  ]),
]);
