// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { StreamState, initial, take } from '../state';
import { ColumnsView } from './columns';
import { DISPLAY, TIMING, inWords } from './panel';
import type { ISettled } from './settled';
import { StreamView } from './stream';
import { step } from './timeline';
import { likelihood } from './tint';
import { laidOut } from './tools';

/** The timeline follows the text within this. */
const CLOCK_MS = 100;
const FRAME_MS = 20;
let node: HTMLElement;
let disposals: (() => void)[];

beforeEach(() => {
  vi.useFakeTimers();
  disposals = [];
});

afterEach(() => {
  disposals.forEach(dispose => dispose());
  vi.useRealTimers();
});

/** Metadata as timing/timeline.py writes it: pieces of [ms since the one before, characters, channel]. */
function about(pieces: [number, number, number?][]): ISettled['about'] {
  return {
    timeline: {
      delta_us: pieces.map(([ms]) => ms * 1000),
      characters: pieces.map(([, characters]) => characters),
      flags: pieces.map(([, , channel]) => (channel ?? 0) | 0x80)
    }
  };
}

function shown<V extends { node: HTMLElement; dispose(): void }>(view: V): V {
  node = view.node;
  document.body.append(node);
  disposals.push(() => {
    view.dispose();
    view.node.remove();
  });
  return view;
}

function one(selector: string): HTMLElement {
  const found = node.querySelectorAll<HTMLElement>(selector);
  expect(found).toHaveLength(1);
  return found[0];
}

function all(selector: string): HTMLElement[] {
  return [...node.querySelectorAll<HTMLElement>(selector)];
}

function visible(selector: string): HTMLElement[] {
  return all(selector).filter(each => !each.closest('[hidden]'));
}

function button(name: string): HTMLButtonElement {
  const found = visible('button').filter(
    each => (each.getAttribute('aria-label') ?? each.textContent) === name
  );
  expect(found).toHaveLength(1);
  return found[0] as HTMLButtonElement;
}

function marks(): string {
  return all('.ts-Arrived')
    .map(path => path.getAttribute('d') ?? '')
    .join('');
}

const SAID = ['Hel', 'lo ', '🙂', ' there', '.'];

/** The same with how it was displayed, as it is known a moment after the end. */
function displayed(given: ISettled, last: unknown = 21_400): ISettled {
  const figures = { messages: 5, p50: 17_000, p99: 1_500_000, most: 1_500_000 };
  const displayed_us = { ...figures, last, error: 300, work: 900 };
  const timeline = { ...(given.about.timeline as object), displayed_us };
  return { ...given, about: { ...given.about, timeline } };
}

function transcript(rest: Partial<ISettled> = {}): ISettled {
  const pieces: [number, number][] = [
    [100, 3],
    [20, 3],
    [20, 1],
    [2000, 6],
    [20, 1]
  ];
  const timing = { ttft_ms: 100, chunks: 5, stalls: 1, ttfa_ms: null };
  return {
    model: 'acme/large',
    outcome: 'complete',
    text: SAID.join(''),
    about: { ...about(pieces), timing },
    ...rest
  };
}

describe('the timeline of a settled transcript', () => {
  it('marks the wait, every piece, and the stall with its length', () => {
    shown(new StreamView(null, () => undefined)).settle(transcript());
    expect(one('.ts-Timeline > svg').getAttribute('viewBox')).toBe(
      '0 0 2160 16'
    );
    expect(one('.ts-Wait').getAttribute('width')).toBe('100');
    expect(marks().match(/M[\d.]+/g)).toEqual([
      'M100',
      'M120',
      'M140',
      'M2140',
      'M2160'
    ]);
    expect(all('.ts-Stall').map(each => each.textContent)).toEqual(['2.00 s']);
  });

  it('says in words what it draws', () => {
    shown(new StreamView(null, () => undefined)).settle(transcript());
    expect(one('[role=img]').getAttribute('aria-label')).toBe(
      'Timeline: first text after 100 ms, 1 stall, longest gap 2.00 s, last text after 2.16 s'
    );
  });

  it('marks the silence before a run was cut short', () => {
    const cut = about([
      [10, 4],
      [20, 1]
    ]);
    (cut.timeline as Record<string, unknown>).moments_ms = { closed: 3030 };
    shown(new StreamView(null, () => undefined)).settle(
      transcript({ outcome: 'truncated', about: cut })
    );
    expect(all('.ts-Stall').map(each => each.textContent)).toEqual(['3.00 s']);
    expect(one('[role=img]').getAttribute('aria-label')).toContain(
      'no stalls, longest gap 20 ms, last text after 30 ms, then nothing for 3.00 s'
    );
  });

  it('tells the time, the gap and the words where the reader points', () => {
    shown(new StreamView(null, () => undefined)).settle(transcript());
    const strip = one('.ts-Timeline');
    vi.spyOn(strip, 'getBoundingClientRect').mockReturnValue({
      left: 0,
      width: 216
    } as DOMRect);
    const point = (x: number): string => {
      strip.dispatchEvent(new MouseEvent('pointermove', { clientX: x }));
      return visible('.ts-Readout').map(each => each.textContent)[0] ?? '';
    };
    expect(point(2)).toBe('waited for the first text 100 ms');
    expect(point(12.1)).toBe('120 ms · gap 20 ms · “lo ”');
    expect(point(14)).toBe('140 ms · gap 20 ms · “🙂”');
    expect(point(40)).toBe('2.14 s · stalled 2.00 s · “ there”');
  });

  it('is not there when the file has none', () => {
    shown(new StreamView(null, () => undefined)).settle(
      transcript({ about: {} })
    );
    expect(visible('.ts-Timeline, .ts-Panel, button')).toEqual([]);
  });
});

describe('the live timeline', () => {
  function append(state: StreamState, seq: number, at: number[], ms: number) {
    const message = { op: 'append', seq, channel: 'text', text: 'x', at, ms };
    take(state, message, performance.now());
  }

  it('draws each mark once and touches no sealed one again', () => {
    const view = shown(new StreamView(null, () => undefined));
    const state = { ...initial(), status: 'waiting', since: 0 };
    for (let n = 0; n < 200; n++) {
      append(state, n + 1, [100 + 20 * n], 100 + 20 * n);
      view.update(state);
      vi.advanceTimersByTime(FRAME_MS);
    }
    vi.advanceTimersByTime(CLOCK_MS);
    const paths = all('.ts-Arrived');
    expect(marks().match(/M/g)).toHaveLength(200);
    const sealed = paths.filter(path => path.parentElement?.tagName === 'g');
    expect(sealed).toHaveLength(4);
    const writes = vi.spyOn(sealed[0], 'setAttribute');
    append(state, 201, [4100], 4100);
    view.update(state);
    vi.advanceTimersByTime(CLOCK_MS);
    expect(writes).not.toHaveBeenCalled();
    expect(marks().match(/M/g)).toHaveLength(201);
  });

  it('stays small however long the stream is', () => {
    const state = { ...initial(), since: 0 };
    for (let n = 0; n < 20_000; n++) {
      append(state, n + 1, [n * 20], n * 20);
    }
    expect(state.spans.length).toBeLessThanOrEqual(1200);
    expect(state.spans.reduce((sum, span) => sum + span.pieces, 0)).toBe(
      20_000
    );
  });

  it('shows a stall while it lasts, and its length when it is over', () => {
    const view = shown(new StreamView(null, () => undefined));
    const state = { ...initial(), status: 'waiting', since: 0 };
    vi.setSystemTime(0);
    const now = performance.now();
    state.since = now;
    append(state, 1, [10, 20, 20], 50);
    view.update(state);
    vi.advanceTimersByTime(900);
    expect(all('.ts-Stall')).toEqual([]);
    vi.advanceTimersByTime(1200);
    expect(one('.ts-Stall').textContent).toMatch(/^[12]\.\d+ s$/);
    append(state, 2, [2150], 2150);
    view.update(state);
    vi.advanceTimersByTime(200);
    expect(one('.ts-Stall').textContent).toBe('2.10 s');
  });

  it('has an axis that grows by steps', () => {
    expect([0, 1900, 1990, 4000, 59_000, 7_000_000].map(step)).toEqual([
      2000, 2000, 5000, 5000, 120_000, 7_200_000
    ]);
  });
});

describe('the panel', () => {
  it('is closed, and opened has every figure, with what it means; unknown is no zero', () => {
    shown(new StreamView(null, () => undefined)).settle(transcript());
    const panel = one('.ts-Panel') as HTMLDetailsElement;
    expect(panel.open).toBe(false);
    expect(all('.ts-Row')).toEqual([]);
    panel.open = true;
    panel.dispatchEvent(new Event('toggle'));
    for (const [name, , , meaning] of TIMING) {
      const row = one(`[data-figure="${name}"]`);
      expect(row.title).toBe(meaning);
      expect(row.querySelector('dt')?.getAttribute('aria-description')).toBe(
        meaning
      );
    }
    const value = (name: string): string | undefined =>
      one(`[data-figure="${name}"] dd`).textContent ?? undefined;
    expect(value('ttft_ms')).toBe('100 ms');
    expect(value('stalls')).toBe('1');
    expect(value('ttfa_ms')).toBe('—unknown');
    expect(value('e2e_ms')).toBe('—unknown');
  });

  it('has how far the display was behind, where that is known', () => {
    const view = shown(new StreamView(null, () => undefined));
    const open = (given: ISettled): string[] => {
      view.settle(given);
      const panel = one('.ts-Panel') as HTMLDetailsElement;
      panel.open = true;
      panel.dispatchEvent(new Event('toggle'));
      return all('[data-figure^="display_"] dd').map(each => each.textContent!);
    };
    expect(open(transcript())).toEqual([]);
    expect(open(displayed(transcript()))).toEqual([
      '17 ms',
      '1.50 s',
      '1.50 s',
      '21 ms',
      '0.3 ms',
      '0.9 ms',
      '5'
    ]);
    expect(DISPLAY).toHaveLength(7);
    expect(open(displayed(transcript(), '<b>'))).toEqual([]);
  });

  it('holds the notes about a whole answer, as text, and says that there are some', () => {
    const hostile = [null, 7, ' ', ...Array<string>(90).fill('again')];
    const view = shown(new StreamView(null, () => undefined));
    const given = transcript();
    const noted = (diagnostics: unknown): string[] => {
      view.settle({
        ...given,
        about: { ...given.about, diagnostics: diagnostics as string[] }
      });
      const panel = one('.ts-Panel') as HTMLDetailsElement;
      panel.open = true;
      panel.dispatchEvent(new Event('toggle'));
      return visible('.ts-Note').map(note => note.textContent ?? '');
    };
    const summary = (): string => one('.ts-Panel > summary').textContent ?? '';
    const markup = '<img src=x onerror=alert(1)>';
    expect(noted(['no usage was sent', markup])).toEqual([
      'Noted: no usage was sent',
      `Noted: ${markup}`
    ]);
    expect(all('img')).toEqual([]);
    expect(visible('.ts-Problem')).toEqual([]);
    expect(summary()).toBe('Timing · 2 notes');
    expect(noted(hostile)).toHaveLength(40);
    expect(noted('no list')).toEqual([]);
    expect(summary()).toBe('Timing');
  });

  it.each([
    [null, 'ms', null],
    [0, 'count', '0'],
    [0.1234, 'share', '12.3 %'],
    ['<b>', 'text', '<b>'],
    [{ a: 1 }, 'text', '{"a":1}'],
    ['x', 'ms', null]
  ] as const)('says %j as a %s', (value, kind, words) => {
    expect(inWords(value, kind)).toBe(words);
  });

  it('tints every piece by the gap before it, and what is tinted is the text', () => {
    const view = shown(new StreamView(null, () => undefined));
    const logprobs = [
      SAID.map((token, i) => ({
        token,
        logprob: -i,
        alternatives: [['other', -3] as [string, number]]
      }))
    ];
    const given = transcript();
    view.settle({ ...given, about: { ...given.about, logprobs } });
    const box = one('.ts-TintToggle') as HTMLInputElement;
    box.click();
    const pieces = all('.ts-Tinted .ts-Piece');
    expect(pieces.map(piece => piece.textContent)).toEqual(SAID);
    expect(pieces.map(piece => piece.dataset.gap)).toEqual([
      undefined,
      undefined,
      undefined,
      '3',
      undefined
    ]);
    expect(visible('.ts-Legend')[0].textContent).toContain(
      'shown as plain text'
    );
    pieces[3].dispatchEvent(new Event('pointerover', { bubbles: true }));
    expect(one('.ts-TintReadout').textContent).toBe(
      'gap 2.00 s · at 2.14 s · “ there” logprob -3.000 (5.0 %), “other” 5.0 %'
    );
    box.click();
    expect(all('.ts-Tinted')).toEqual([]);
  });

  it('tints a text whose timeline does not fit it without losing a character', () => {
    const view = shown(new StreamView(null, () => undefined));
    view.settle(transcript({ text: `${SAID.join('')} and more` }));
    one('.ts-TintToggle').click();
    expect(one('.ts-Tinted').textContent).toBe(`${SAID.join('')} and more`);
    view.settle(transcript({ text: 'He' }));
    one('.ts-TintToggle').click();
    expect(one('.ts-Tinted').textContent).toBe('He');
  });

  it('says how likely a token was', () => {
    expect(
      likelihood({
        token: 'a',
        logprob: 0,
        alternatives: [
          ['a', 0],
          ['b', -1]
        ]
      })
    ).toBe('“a” logprob 0.000 (100.0 %), “b” 36.8 %');
    expect(likelihood({})).toContain('logprob —');
  });
});

describe('replay', () => {
  function replayed(rest: Partial<ISettled> = {}): StreamView {
    const view = shown(new StreamView(null, () => undefined));
    view.settle(transcript(rest));
    button('Replay').click();
    return view;
  }

  function text(): string {
    return visible('.ts-Answer')
      .map(each => each.textContent?.trim())
      .join('|');
  }

  function elapse(ms: number): void {
    for (let spent = 0; spent < ms; spent += 10) {
      vi.advanceTimersByTime(10);
    }
  }

  it('lets the text grow as it did, and ends in the settled view', () => {
    replayed();
    expect(text()).toBe('');
    elapse(60);
    expect(text()).toBe('');
    elapse(70);
    expect(text()).toBe('Hello');
    elapse(1000);
    expect(text()).toBe('Hello 🙂');
    expect(one('.ts-Words').textContent).toBe('replay');
    expect(visible('.ts-Head')).toHaveLength(1);
    elapse(1200);
    expect(text()).toBe(SAID.join(''));
    expect(one('.ts-Words').textContent).toBe('complete');
    expect(visible('.ts-Replay, .ts-Head')).toEqual([]);
    expect(document.activeElement).toBe(button('Replay'));
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is not disturbed by the figures of the display, which come late', () => {
    const given = transcript();
    given.about.id = 'run-1';
    const view = shown(new StreamView(null, () => undefined));
    view.settle(given);
    const panel = one('.ts-Panel') as HTMLDetailsElement;
    panel.open = true;
    button('Replay').click();
    elapse(130);
    view.settle(displayed(given));
    expect(text()).toBe('Hello');
    expect(one('.ts-Words').textContent).toBe('replay');
    expect(one('[data-figure="display_last_ms"] dd').textContent).toBe('21 ms');
    elapse(1000);
    expect(text()).toBe('Hello 🙂');
    const other = { ...given.about, id: 'run-2' };
    view.settle({ ...displayed(given), about: other });
    expect(text()).toBe(SAID.join(''));
  });

  it('is paused, sped up and dragged', () => {
    replayed();
    button('Pause').click();
    elapse(3000);
    expect(text()).toBe('');
    const scrub = one('.ts-Scrub') as HTMLInputElement;
    expect(scrub.getAttribute('aria-label')).toBe('Position');
    scrub.value = '130';
    scrub.dispatchEvent(new Event('input'));
    expect(text()).toBe('Hello');
    expect(scrub.getAttribute('aria-valuetext')).toBe('0.1 s of 2.2 s');
    scrub.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }));
    expect(text()).toBe('');
    button('16×').click();
    expect(button('16×').getAttribute('aria-pressed')).toBe('true');
    button('Play').click();
    elapse(60);
    expect(text()).toBe('Hello 🙂');
    elapse(100);
    expect(one('.ts-Words').textContent).toBe('complete');
  });

  it('of a stopped run ends as it ended', () => {
    const given = transcript({ outcome: 'stopped', stop_cause: 'button' });
    replayed(given);
    button('End replay').click();
    expect(one('.ts-Words').textContent).toBe('stopped by you');
    expect(text()).toBe(SAID.join(''));
  });

  it('moves in steps where motion is reduced', () => {
    vi.stubGlobal('matchMedia', () => ({ matches: true }));
    const frames = vi.spyOn(window, 'requestAnimationFrame');
    replayed();
    elapse(2600);
    expect(frames).not.toHaveBeenCalled();
    expect(text()).toBe(SAID.join(''));
    vi.unstubAllGlobals();
  });

  it('plays tool calls and reasoning too', () => {
    const call = { name: 'find', arguments: '{"a":1}' };
    replayed({
      text: '',
      reasoning: 'hm!',
      tool_calls: [call],
      about: {
        ...about([
          [50, 2, 1],
          [50, 1, 1],
          [100, 3, 3],
          [100, 4, 3]
        ]),
        timing: {}
      }
    });
    elapse(130);
    expect(visible('.ts-Reasoning summary')[0].textContent).toBe(
      'thinking for 50\u00a0ms · began after 50\u00a0ms'
    );
    elapse(100);
    expect(one('.ts-Arguments').textContent).toBe('{\n  "a');
    elapse(200);
    expect(one('.ts-Arguments').textContent).toBe('{\n  "a": 1\n}');
    expect(visible('.ts-Reasoning summary')[0].textContent).toBe(
      'Thought for 50\u00a0ms · began after 50\u00a0ms'
    );
  });
});

describe('several choices', () => {
  it('stand side by side, live and settled, with how each ended', () => {
    const view = shown(new StreamView(null, () => undefined));
    const state = { ...initial(), status: 'waiting' };
    const append = (seq: number, text: string, choice?: number): void => {
      take(state, { op: 'append', seq, channel: 'text', text, choice }, 0);
    };
    append(1, 'one');
    append(2, 'three', 2);
    append(3, 'two', 1);
    view.update(state);
    vi.advanceTimersByTime(FRAME_MS);
    const columns = (): string[] =>
      visible('.ts-Choice').map(each =>
        (each.textContent ?? '')
          .replace(/Reasoning|\s+/g, ' ')
          .replace(/ +/g, ' ')
          .trim()
      );
    expect(columns()).toEqual(
      ['one', 'two', 'three'].map((text, i) => `choice ${i + 1} ${text}`)
    );
    expect(visible('button').map(each => each.textContent)).toEqual(['Stop']);
    view.settle({
      text: 'one',
      choices: [
        { index: 0, text: 'one', finish_reason: 'stop' },
        { index: 1, text: '', tool_calls: [{ name: 'f', arguments: '{}' }] }
      ],
      about: {}
    });
    expect(columns()).toEqual([
      'choice 1 · finish reason stop one',
      'choice 2 tool call f{}'
    ]);
  });
});

describe('columns', () => {
  function live(status: string, rest: Partial<StreamState> = {}): StreamState {
    return { ...initial(), status, model: status, ...rest };
  }

  it('have a Stop each and one for all, and say whose turn it is', () => {
    const stop = vi.fn<(index: number) => void>();
    const view = shown(new ColumnsView(null, stop));
    view.ensure(2);
    view.update(0, live('streaming', { text: 'a' }));
    view.update(1, live('queued'));
    vi.advanceTimersByTime(FRAME_MS);
    expect(visible('button').map(each => each.textContent)).toEqual([
      'Stop all',
      'Stop',
      'Stop'
    ]);
    expect(one('.ts-ColumnsWords').textContent).toBe('1 answering · 1 queued');
    visible('.ts-Stop')[2].click();
    expect(stop.mock.calls).toEqual([[1]]);
    button('Stop all').click();
    expect(stop.mock.calls).toEqual([[1], [0], [1]]);
    view.update(0, live('complete'));
    view.update(1, live('stopped'));
    vi.advanceTimersByTime(FRAME_MS);
    expect(visible('.ts-Stop')).toEqual([]);
  });

  it('share one axis and one clock', () => {
    const view = shown(new ColumnsView(null, () => undefined));
    const short = transcript({
      text: 'ab',
      about: about([
        [10, 1],
        [10, 1]
      ])
    });
    view.settle([transcript(), short]);
    const axes = all('.ts-Timeline > svg').map(svg =>
      svg.getAttribute('viewBox')
    );
    expect(axes).toEqual(['0 0 2160 16', '0 0 2160 16']);
    button('Replay').click();
    for (let i = 0; i < 13; i++) {
      vi.advanceTimersByTime(10);
    }
    const answers = visible('.ts-Stream > .ts-Answer');
    expect(answers.map(each => each.textContent)).toEqual(['Hello', 'ab']);
    expect(visible('.ts-Words').map(each => each.textContent)).toEqual([
      'replay',
      'complete'
    ]);
    button('End replay').click();
    expect(answers[0].textContent).toBe(SAID.join(''));
  });

  it('go on with their replay when the figures of the display come', () => {
    const view = shown(new ColumnsView(null, () => undefined));
    const [first, second] = ['run-1', 'run-2'].map(id => {
      const given = transcript();
      return { ...given, about: { ...given.about, id } };
    });
    view.settle([first, second]);
    button('Replay').click();
    vi.advanceTimersByTime(10);
    const words = (): (string | null)[] =>
      visible('.ts-Words').map(each => each.textContent);
    view.settle([first, displayed(second)]);
    expect(words()).toEqual(
      Array(2).fill('replay: waiting for the first token')
    );
    view.settle([first]);
    expect(words()).toEqual(['complete']);
  });
});

it.each([
  ['{"a": [1,2], "b": {}}', '{\n  "a": [\n    1,\n    2\n  ],\n  "b": {}\n}'],
  ['{"a{": "x\\"}', '{\n  "a{": "x\\"}'],
  ['[1', '[\n  1'],
  ['not json', 'not json'],
  ['}{', '}{']
])('arguments %s are laid out', (json, expected) => {
  expect(laidOut(json)).toBe(expected);
});
