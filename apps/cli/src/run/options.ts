import { FarpoolError, WHOLE, type Filter, type Size } from "@farpool/contract";

export interface SessionOptions {
  readonly count: number | undefined;
  readonly share: Size | undefined;
  readonly memory: Size | undefined;
  readonly wait: number | undefined;
  readonly filters: readonly Filter[] | undefined;
  readonly priority: number | undefined;
  readonly isSpread: boolean;
  readonly name: string | undefined;
  readonly project: string | undefined;
  readonly labels: ReadonlyArray<readonly [string, string]> | undefined;
  readonly idleTimeout: number | undefined;
  readonly maxDuration: number | undefined;
  readonly isNew: boolean;
  readonly isVerbose: boolean;
  readonly isQuiet: boolean;
}

export interface RunOptions extends SessionOptions {
  readonly summary: string | undefined;
}

export function sizeOf({ share, memory }: SessionOptions): Size {
  if (share !== undefined && memory !== undefined) {
    throw new FarpoolError(
      "FARPOOL_USAGE",
      "-p and -m both say how large the GPUs are; one of them is enough",
      {
        hint: "-p is a share of each GPU, -m an amount of memory",
      },
    );
  }
  return share ?? memory ?? WHOLE;
}

/** Inside `farpool shell` a command joins the session that is there, unless it asks for something else. */
export function joinsSession(
  options: SessionOptions,
  environment: Readonly<Record<string, string | undefined>>,
): boolean {
  const given = environment["FARPOOL_SESSION"];
  const { count, share, memory, filters, isSpread, idleTimeout, maxDuration } = options;
  const asked = [count, share, memory, filters, idleTimeout, maxDuration];
  const asks = asked.some((option) => option !== undefined) || isSpread;
  return given !== undefined && given !== "" && !asks && !options.isNew;
}
