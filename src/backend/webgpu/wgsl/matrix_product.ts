/** Matrix products: sums over k of left(row, k) right(column, k). */
import { ceilDivide, type Numbers, type Stage } from '../kernel.ts';

interface Side {
  /** WGSL of an element, by `row` or `column`, and `k`. */
  value: (numbers: Numbers) => string;
  /** Along which of them elements lie side by side in memory. */
  adjacent: 'k' | 'row' | 'column';
}

export interface Product {
  name?: string;
  operands?: readonly string[];
  /** The numbers that are the extents. */
  rows: string;
  columns: string;
  depth: string;
  left: Side;
  right: Side;
  /** Of elements: f32 by default; packed are four 8-bit integers, whose sums are i32. */
  type?: 'f32' | 'packed';
  /** WGSL that defines `fn store(row: u32, column: u32, sum)`. */
  store: (numbers: Numbers) => string;
  /** Few rows: each weight is read once, by threads side by side along k. */
  thin?: boolean;
  uses?: readonly string[];
  numbers: Numbers;
}

export const matrixProduct = (product: Product): Stage => (product.thin ? thinProduct(product) : tiledProduct(product));

const types = {
  f32: {
    element: 'f32',
    sum: 'f32',
    vector: 'vec4f',
    add: (sum: string, a: string, b: string) => `${sum} += ${a} * ${b};`,
    products: 'fn products(a: f32, b: vec4f) -> vec4f { return a * b; }',
  },
  packed: {
    element: 'u32',
    sum: 'i32',
    vector: 'vec4i',
    add: (sum: string, a: string, b: string) => `${sum} += dot4(${a}, ${b});`,
    products: 'fn products(a: u32, b: vec4u) -> vec4i { return vec4i(dot4(a, b.x), dot4(a, b.y), dot4(a, b.z), dot4(a, b.w)); }',
  },
} as const;

const functions = ({ left, right, store, numbers, type = 'f32' }: Product) => `
  fn left(row: u32, k: u32) -> ${types[type].element} { return ${left.value(numbers)}; }
  fn right(column: u32, k: u32) -> ${types[type].element} { return ${right.value(numbers)}; }
  ${store(numbers)}`;

/** Rows and columns that a workgroup of 256 threads computes, each a square of 4 by 4, and how much of k it loads at a time. */
const tile = 64;
const tileDepth = 16;

/** Tiles of both sides are loaded into memory that the workgroup shares, each element once for 64 products. */
function tiledProduct(product: Product): Stage {
  const { name = 'product', operands, rows, columns, depth, left, right, type = 'f32', uses } = product;
  const { element, vector, products } = types[type];
  const stride = tile + 1; // so that threads that store along k meet different banks
  // Threads side by side load what lies side by side.
  const load = (side: 'left' | 'right', extent: string, adjacent: boolean) => `
    for (var e = lane; e < ${tile * tileDepth}u; e += 256u) {
      let k = ${adjacent ? `e % ${tileDepth}u` : `e / ${tile}u`};
      let i = ${adjacent ? `e / ${tileDepth}u` : `e % ${tile}u`};
      var value = ${element}(0);
      if (first_${side} + i < p.${extent} && origin + k < p.${depth}) { value = ${side}(first_${side} + i, origin + k); }
      ${side}_tile[k * ${stride}u + i] = value;
    }`;
  return {
    name,
    operands,
    threads: 256,
    groups: (numbers) => ceilDivide(numbers[rows], tile) * ceilDivide(numbers[columns], tile),
    uses,
    code: () => `
      ${functions(product)}
      ${products}
      fn store_row(row: u32, column: u32, sums: ${vector}) {
        if (row >= p.${rows}) { return; }
        for (var j = 0u; j < 4u; j++) { if (column + 16u * j < p.${columns}) { store(row, column + 16u * j, sums[j]); } }
      }
      var<workgroup> left_tile: array<${element}, ${stride * tileDepth}>;
      var<workgroup> right_tile: array<${element}, ${stride * tileDepth}>;
      fn run(group: u32, lane: u32) {
        let across = (p.${columns} + ${tile - 1}u) / ${tile}u;
        let first_left = (group / across) * ${tile}u;
        let first_right = (group % across) * ${tile}u;
        let y = lane / 16u;
        let x = lane % 16u;
        ${[0, 1, 2, 3].map((i) => `var sums${i}: ${vector};`).join(' ')}
        for (var origin = 0u; origin < p.${depth}; origin += ${tileDepth}u) {
          ${load('left', rows, left.adjacent === 'k')}
          ${load('right', columns, right.adjacent === 'k')}
          workgroupBarrier();
          for (var k = 0u; k < ${tileDepth}u; k++) {
            let a = k * ${stride}u + y * 4u;
            let b = k * ${stride}u + x;
            let right_values = vec4<${element}>(right_tile[b], right_tile[b + 16u], right_tile[b + 32u], right_tile[b + 48u]);
            ${[0, 1, 2, 3].map((i) => `sums${i} += products(left_tile[a + ${i}u], right_values);`).join(' ')}
          }
          workgroupBarrier();
        }
        ${[0, 1, 2, 3].map((i) => `store_row(first_left + y * 4u + ${i}u, first_right + x, sums${i});`).join(' ')}
      }`,
  };
}

/** Rows and columns of a workgroup of 64 threads, which share k among them. */
const thin = 4;

function thinProduct(product: Product): Stage {
  const { name = 'thin product', operands, rows, columns, depth, type = 'f32', uses } = product;
  const { element, sum, add } = types[type];
  return {
    name,
    operands,
    groups: (numbers) => ceilDivide(numbers[rows], thin) * ceilDivide(numbers[columns], thin),
    uses,
    code: () => `
      ${functions(product)}
      var<workgroup> parts: array<${sum}, ${thin * thin * 65}>;
      fn run(group: u32, lane: u32) {
        let across = (p.${columns} + ${thin - 1}u) / ${thin}u;
        let first_row = (group / across) * ${thin}u;
        let first_column = (group % across) * ${thin}u;
        var sums: array<array<${sum}, ${thin}>, ${thin}>;
        for (var k = lane; k < p.${depth}; k += 64u) {
          var a: array<${element}, ${thin}>;
          for (var i = 0u; i < ${thin}u; i++) { if (first_row + i < p.${rows}) { a[i] = left(first_row + i, k); } }
          for (var j = 0u; j < ${thin}u; j++) {
            if (first_column + j < p.${columns}) {
              let b = right(first_column + j, k);
              for (var i = 0u; i < ${thin}u; i++) { ${add('sums[i][j]', 'a[i]', 'b')} }
            }
          }
        }
        for (var i = 0u; i < ${thin}u; i++) {
          for (var j = 0u; j < ${thin}u; j++) { parts[(i * ${thin}u + j) * 65u + lane] = sums[i][j]; }
        }
        workgroupBarrier();
        if (lane < ${thin * thin}u) {
          var all = parts[lane * 65u];
          for (var i = 1u; i < 64u; i++) { all += parts[lane * 65u + i]; }
          let row = first_row + lane / ${thin}u;
          let column = first_column + lane % ${thin}u;
          if (row < p.${rows} && column < p.${columns}) { store(row, column, all); }
        }
      }`,
  };
}
