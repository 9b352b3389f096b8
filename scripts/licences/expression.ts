/** Whether an SPDX licence expression can be satisfied with allowed licences alone. */
export function isAllowed(expression: string, allowed: ReadonlySet<string>): boolean {
  // Cargo's old notation for a choice is a slash.
  const tokens = expression.replaceAll("/", " OR ").match(/\(|\)|[^\s()]+/g) ?? [];
  let next = 0;

  function choice(): boolean {
    let result = conjunction();
    while (tokens[next] === "OR") {
      next += 1;
      // Both sides are read, whatever the first one was.
      const other = conjunction();
      result = result || other;
    }
    return result;
  }

  function conjunction(): boolean {
    let result = single();
    while (tokens[next] === "AND") {
      next += 1;
      const other = single();
      result = result && other;
    }
    return result;
  }

  function single(): boolean {
    if (tokens[next] === "(") {
      next += 1;
      const result = choice();
      next += 1;
      return result;
    }
    let licence = tokens[next] ?? "";
    next += 1;
    if (tokens[next] === "WITH") {
      licence += ` WITH ${tokens[next + 1] ?? ""}`;
      next += 2;
    }
    return allowed.has(licence);
  }

  const result = choice();
  return result && next === tokens.length;
}
