/** The name that a mistyped one probably meant: at most two letters, and fewer than half of them, differ. */
export function nearest(typed: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.min(2, Math.floor(typed.length / 2)) + 1;
  for (const name of names) {
    const distance = editDistance(typed, name);
    if (distance >= least) continue;
    [best, least] = [name, distance];
  }
  return best;
}

/** How many letters are added, left out, exchanged, or swapped with their neighbour. */
function editDistance(left: string, right: string): number {
  let twoBefore: number[] = [];
  let before = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= right.length; column += 1) {
      const same = left[row - 1] === right[column - 1] ? 0 : 1;
      const choices = [
        (before[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (before[column - 1] ?? 0) + same,
      ];
      if (row > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1])
        choices.push((twoBefore[column - 2] ?? 0) + 1);
      current.push(Math.min(...choices));
    }
    [twoBefore, before] = [before, current];
  }
  return before[right.length] ?? 0;
}
