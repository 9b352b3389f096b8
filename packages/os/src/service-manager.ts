import { addOn } from "./add-on.ts";
import type { Descriptor } from "./descriptor.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Tells the service manager how this service is doing: lines such as `READY=1`, `STATUS=…`, `WATCHDOG=1`.
 * False when no service manager has started it.
 */
export function sdNotify(state: string, environment: Environment = process.env): boolean {
  return sdNotifyWithDescriptors(state, [], environment);
}

/** With descriptors for its store: `FDSTORE=1` and `FDNAME=…`. They are there again when the service is restarted. */
export function sdNotifyWithDescriptors(
  state: string,
  descriptors: readonly Descriptor[],
  environment: Environment = process.env,
): boolean {
  const address = environment["NOTIFY_SOCKET"];
  if (address === undefined || address === "") return false;
  addOn().notifyServiceManager(address, state, descriptors);
  return true;
}
