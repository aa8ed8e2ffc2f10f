/** Mean and variance of each column of rows that come in parts. */
export class Moments {
  private readonly sums: Float64Array;
  private readonly squares: Float64Array;
  rows = 0;

  constructor(readonly width: number) {
    this.sums = new Float64Array(width);
    this.squares = new Float64Array(width);
  }

  add(values: Float32Array): void {
    const { sums, squares, width } = this;
    for (let row = 0; row < values.length; row += width) {
      for (let i = 0; i < width; i++) {
        sums[i] += values[row + i];
        squares[i] += values[row + i] ** 2;
      }
    }
    this.rows += values.length / width;
  }

  get mean(): Float64Array {
    return this.sums.map((sum) => sum / this.rows);
  }

  get variance(): Float64Array {
    return this.squares.map((square, i) => Math.max(0, square / this.rows - (this.sums[i] / this.rows) ** 2));
  }
}
