// @vitest-environment jsdom
import fc from 'fast-check';
import { expect, it } from 'vitest';

import { Answer } from '../answer';

function shown(text: string, step: number, done = true): string {
  const answer = new Answer('json');
  for (let end = 0; end < text.length; end += step) {
    answer.update(text.slice(0, end));
  }
  answer.update(text, done);
  answer.node.querySelectorAll('.ts-CodeBar').forEach(node => node.remove());
  return answer.node.textContent ?? '';
}

it('draws any JSON as JSON.stringify would indent it, in any chunks', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.nat(9), (value, step) => {
      const text = JSON.stringify(value);
      expect(shown(text, step + 1)).toBe(JSON.stringify(value, null, 2));
    }),
    { numRuns: 300 }
  );
});

it('shows a value as far as it came', () => {
  expect(shown('{"a": [1, tr', 1, false)).toBe('{\n  "a": [\n    1,\n    tr');
});

it.each([
  '{"a" 1}',
  '[1,]',
  '{a: 1}',
  'Sure! {"a": 1}',
  '{"a": 1} and more',
  '[01]'
])('shows what is no JSON as it came: %s', text => {
  expect(shown(text, 1)).toBe(text);
});
