/** How much is taken on at a time: whatever is too much is refused at once, so that it can go elsewhere. */
export class Permits {
  private taken = 0;

  constructor(readonly limit: number) {}

  get free(): number {
    return this.limit - this.taken;
  }

  /** Takes so many if they are free; says whether they were. */
  take(count: number): boolean {
    if (count > this.free) return false;
    this.taken += count;
    return true;
  }

  give(count: number): void {
    this.taken -= count;
  }
}
