import { describe, expect, it } from 'vitest';

import type { ISettled } from './settled';
import {
  Strands,
  countAt,
  endsOf,
  readTimeline,
  spansOf,
  stallRule,
  stallsOf,
  wordsOf
} from './timeline-data';

/** Metadata as timing/timeline.py writes it: pieces of [ms since the one before, characters, channel, choice]. */
function about(
  pieces: [number, number, number?, number?][],
  moments: Record<string, number | null> = {}
): ISettled['about'] {
  return {
    timeline: {
      version: 1,
      moments_ms: moments,
      delta_us: pieces.map(([ms]) => ms * 1000),
      characters: pieces.map(([, characters]) => characters),
      flags: pieces.map(([, , channel, choice]) => {
        return (channel ?? 0) | ((choice ?? 0) << 3) | 0x80;
      })
    }
  };
}

describe('a timeline', () => {
  it('is read with its channels, choices and end', () => {
    const line = readTimeline(
      about(
        [
          [98, 5],
          [20, 3, 1],
          [2000, 2, 0, 2]
        ],
        { stop_requested: 3000 }
      )
    )!;
    expect([...line.at]).toEqual([98, 118, 2118]);
    expect([...line.channel]).toEqual([0, 1, 0]);
    expect([...line.choice]).toEqual([0, 0, 2]);
    expect(line.total).toBe(3000);
    expect(line.stopped).toBe(3000);
  });

  it('has every choice, also those behind the fifteenth', () => {
    const flag_runs = [0xf8, 1, 0x1f8, 2, 0x7079, 1, 0x80, 1];
    const characters = [1, 1, 1, 1, 1];
    const line = readTimeline({
      timeline: { delta_us: characters, characters, flag_runs }
    })!;
    expect([...line.choice]).toEqual([15, 16, 16, 127, 0]);
    expect([...line.channel]).toEqual([0, 0, 0, 1, 0]);
  });

  it.each([
    undefined,
    {},
    { delta_us: [1], characters: [1, 2], flags: [0] },
    { delta_us: ['1'], characters: [1], flags: [0] },
    { delta_us: [NaN], characters: [1], flags: [0] },
    { delta_us: [], characters: [], flags: [] },
    { delta_us: { length: 1e9 }, characters: [1], flags: [0] },
    { delta_us: [1], characters: [1], flag_runs: [0] },
    { delta_us: [1], characters: [1], flag_runs: [0, 2] },
    { delta_us: [1], characters: [1], flag_runs: [0, -1] },
    { delta_us: [1], characters: [1], flag_runs: [0, 1e12] }
  ])('that is damaged is none (%j)', timeline => {
    expect(readTimeline({ timeline })).toBeNull();
  });

  it('has the stalls that metrics.py counts: above a second and five medians', () => {
    const line = readTimeline(
      about([
        [100, 1],
        [20, 1],
        [20, 1],
        [1000, 1],
        [20, 1],
        [1001, 1],
        [20, 1]
      ])
    )!;
    expect(stallRule(line.at)).toEqual({ threshold: 1000, median: 20 });
    expect(stallsOf(line.at)).toEqual([{ from: 1160, to: 2161 }]);
    const slow = readTimeline(
      about([
        [0, 1],
        [900, 1],
        [900, 1],
        [4000, 1]
      ])
    )!;
    expect(stallsOf(slow.at)).toEqual([]);
    expect(stallRule(readTimeline(about([[5, 1]]))!.at)).toBeNull();
  });

  it('keeps apart only what can be drawn apart, and channels always', () => {
    const line = readTimeline(
      about([
        [10, 1, 1],
        [1, 1, 1],
        [1, 1],
        [9, 1]
      ])
    )!;
    expect(spansOf(line, 5)).toEqual([
      { from: 10, to: 11, pieces: 2, channel: 'reasoning' },
      { from: 12, to: 12, pieces: 1, channel: 'text' },
      { from: 21, to: 21, pieces: 1, channel: 'text' }
    ]);
  });

  it('tells how many pieces had come', () => {
    const at = Float64Array.of(10, 20, 20, 30);
    expect([9, 10, 20, 25, 99].map(ms => countAt(at, ms))).toEqual([
      0, 1, 3, 3, 4
    ]);
  });
});

describe('the words of a piece', () => {
  it('are found by code points, as Python counts', () => {
    expect(endsOf('a🙂bc', [2, 1, 1])).toEqual([3, 4, 5]);
    expect(endsOf('abc', [2, 9, 1])).toEqual([2, 3, 3]);
  });

  it('are those of its channel and its choice', () => {
    const { about: told } = {
      about: about([
        [1, 2, 1],
        [1, 3],
        [1, 4, 0, 1],
        [1, 2]
      ])
    };
    const line = readTimeline(told)!;
    const strands = new Strands(
      {
        about: told,
        text: 'Hello',
        reasoning: 'hm',
        choices: [
          { index: 0, text: 'Hello', reasoning: 'hm' },
          { index: 1, text: 'Ciao' }
        ]
      },
      line
    );
    expect([0, 1, 2, 3].map(piece => strands.words(piece))).toEqual([
      'hm',
      'Hel',
      'Ciao',
      'lo'
    ]);
    const strand = strands.of(0, 'text');
    expect(strand.pieces.map((_, i) => wordsOf(strand, i)).join('')).toBe(
      'Hello'
    );
    expect([0, 1, 2, 3, 4].map(n => strands.until(0, 'text', n))).toEqual([
      '',
      '',
      'Hel',
      'Hel',
      'Hello'
    ]);
  });
});
