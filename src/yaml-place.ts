/** Where in a YAML file something stands. */
import { isNode, type Document, type LineCounter } from 'yaml';

/** Where the key (or, failing that, the deepest part of its path) stands in the text. */
export function offsetOf(document: Document, path: readonly PropertyKey[]): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const parent: unknown = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    if (typeof parent !== 'object' || parent === null || !('items' in parent) || !Array.isArray(parent.items)) continue;
    const last = path[length - 1];
    const item: unknown =
      typeof last === 'number' ? parent.items[last] : parent.items.find((pair) => keyOf(pair)?.value === last);
    const node = isNode(item) ? item : keyOf(item);
    if (node?.range) return node.range[0];
  }
  return undefined;
}

function keyOf(pair: unknown): { value: unknown; range?: readonly number[] } | undefined {
  const key: unknown = typeof pair === 'object' && pair !== null && 'key' in pair ? pair.key : undefined;
  return typeof key === 'object' && key !== null && 'value' in key ? key : undefined;
}

/** `file:line:column`, both from 1. */
export function placeOf(file: string, lineCounter: LineCounter, offset: number | undefined): string {
  if (offset === undefined) return file;
  const { line, col } = lineCounter.linePos(offset);
  return `${file}:${line}:${col}`;
}
