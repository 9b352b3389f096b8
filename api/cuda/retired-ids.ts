/** Ids of calls that were removed or whose records changed; they are never given away again. */
export const retiredIds: ReadonlySet<number> = new Set([]);
