import { describe, expect, it } from 'vitest';

import { duration, rate, running } from './format';

describe('a duration', () => {
  it.each([
    [0, '0.0 ms'],
    [0.26, '0.3 ms'],
    [9.9, '9.9 ms'],
    [10, '10 ms'],
    [345.6, '346 ms'],
    [999, '999 ms'],
    [1000, '1.00 s'],
    [1234, '1.23 s'],
    [9990, '9.99 s'],
    [10_000, '10.0 s'],
    [59_900, '59.9 s'],
    [60_000, '1 min 0 s'],
    [61_999, '1 min 1 s'],
    [3_725_000, '62 min 5 s']
  ])('of %d ms reads %s', (ms, words) => {
    expect(duration(ms)).toBe(words);
  });

  it('never shows sixty seconds beside a minute', () => {
    expect(duration(119_999)).toBe('1 min 59 s');
  });

  it.each([
    [9.99, '10 ms'],
    [999.6, '1.00 s'],
    [59_990, '1 min 0 s']
  ])('of %d ms that rounds up to the next unit reads %s', (ms, words) => {
    expect(duration(ms)).toBe(words);
  });
});

describe('a running time', () => {
  it.each([
    [0, '0.0 s'],
    [149, '0.1 s'],
    [12_340, '12.3 s'],
    [60_000, '1 min 0 s'],
    [125_400, '2 min 5 s']
  ])('of %d ms reads %s', (ms, words) => {
    expect(running(ms)).toBe(words);
  });

  it('keeps its decimals, so that it does not dance', () => {
    const decimals = [0, 50, 100, 900, 1000, 9999, 10_000, 59_900].map(
      ms => running(ms).match(/\.(\d+) s$/)?.[1].length
    );
    expect(new Set(decimals)).toEqual(new Set([1]));
  });
});

describe('a rate', () => {
  it.each([
    [0, '0.0'],
    [0.44, '0.4'],
    [9.5, '9.5'],
    [10, '10'],
    [123.7, '124']
  ])('of %d a second reads %s', (perSecond, words) => {
    expect(rate(perSecond)).toBe(words);
  });
});
