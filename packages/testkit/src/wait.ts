/** Asks again until there is an answer; fails with the name of what never came. */
export async function waitFor<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  timeoutMs = 15_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  let failure: unknown;
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > deadline)
      throw new Error(`${what} did not come within ${timeoutMs} ms`, { cause: failure });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
