/**
 * Polynomials over GF(256) with the modulus of AES (FIPS 197, section 4), as SLIP-39 uses them. Neither branches nor table look-ups depend on
 * the values, as far as the language lets one say so.
 */
import { assert } from '../errors.ts';

/** The values at `x` (0 to 255) of as many polynomials as `y` has bytes. */
export interface Point {
  x: number;
  y: Uint8Array;
}

/** The values at `x` of the polynomials of the lowest degree through the points (Lagrange). The points' own x must differ and are no secret. */
export function interpolate(points: readonly Point[], x: number): Uint8Array {
  assert(new Set(points.map((point) => point.x)).size === points.length, 'points of different x');
  const values = new Uint8Array(points[0]?.y.length ?? 0);
  for (const point of points) {
    assert(point.y.length === values.length, 'points of one length');
    const others = points.filter((other) => other !== point);
    const weight = others.reduce(
      (product, other) => multiply(product, multiply(x ^ other.x, inverse(point.x ^ other.x))),
      1,
    );
    point.y.forEach((byte, i) => {
      values[i]! ^= multiply(byte, weight);
    });
  }
  return values;
}

/** The product of two field elements: for each bit of `b`, `a` shifted and reduced, added by a mask. */
export function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = a;
  for (let bit = 0; bit < 8; bit++) {
    product ^= shifted & -((b >> bit) & 1);
    shifted = (shifted << 1) ^ (0x11b & -(shifted >> 7));
  }
  return product;
}

/** The inverse of an element other than 0: its 254th power, as the product of its 2nd, 4th, … 128th. */
function inverse(a: number): number {
  let power = a;
  let product = 1;
  for (let i = 1; i < 8; i++) {
    power = multiply(power, power);
    product = multiply(product, power);
  }
  return product;
}
