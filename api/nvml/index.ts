/** The whole description: every exported function of NVML 13.0 that we know. */

import { devices } from "./device.ts";
import { initialisation } from "./initialisation.ts";
import { live, processes } from "./live.ts";
import type { NvmlNoun } from "./model.ts";
import { system } from "./system.ts";
import { unsupported } from "./unsupported.ts";

export const nvmlNouns: readonly NvmlNoun[] = [
  initialisation,
  system,
  devices,
  live,
  processes,
  ...unsupported,
];
