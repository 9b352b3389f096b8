/** A binary heap: what is before all others comes out first. */
export class Heap<T> {
  private readonly items: T[];
  private readonly isBefore: (a: T, b: T) => boolean;

  constructor(isBefore: (a: T, b: T) => boolean, items: readonly T[] = []) {
    this.isBefore = isBefore;
    this.items = [...items];
    for (let place = (items.length >> 1) - 1; place >= 0; place -= 1) {
      const item = this.items[place];
      if (item !== undefined) this.sink(item, place);
    }
  }

  get first(): T | undefined {
    return this.items[0];
  }

  push(item: T): void {
    const { items } = this;
    let place = items.length;
    items.push(item);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = items[parent] ?? item;
      if (!this.isBefore(item, above)) break;
      items[place] = above;
      place = parent;
    }
    items[place] = item;
  }

  pop(): T | undefined {
    const { items } = this;
    const [first] = items;
    const last = items.pop();
    if (items.length > 0 && last !== undefined) this.sink(last, 0);
    return first;
  }

  /** Puts an item where it belongs at or below this place, whose own item is not needed any more. */
  private sink(item: T, from: number): void {
    const { items } = this;
    let place = from;
    for (;;) {
      let child = 2 * place + 1;
      let below = items[child];
      const right = items[child + 1];
      if (below === undefined) break;
      if (right !== undefined && this.isBefore(right, below)) {
        child += 1;
        below = right;
      }
      if (!this.isBefore(below, item)) break;
      items[place] = below;
      place = child;
    }
    items[place] = item;
  }
}
