import { describe, expect, it } from 'vitest';

import {
  IBundle,
  Message,
  Need,
  OUTCOMES,
  StreamState,
  initial,
  isOver,
  restore,
  take
} from './state';

const NOW = 5000;
const BUNDLE: IBundle = { data: { 'text/plain': 'x' }, metadata: {} };

function append(seq: number, text: string, rest: Message = {}): Message {
  return { op: 'append', seq, channel: 'text', text, ...rest };
}

/** What the messages add up to, and what each asked for. */
function after(...messages: Message[]): { state: StreamState; needs: Need[] } {
  const state = initial();
  const needs = messages.map(message => take(state, message, NOW));
  return { state, needs };
}

describe('deltas', () => {
  it('add up in order', () => {
    const { state, needs } = after(
      append(1, 'How '),
      append(2, 'are '),
      append(3, 'you?')
    );
    expect(state.text).toBe('How are you?');
    expect(state.seq).toBe(3);
    expect(needs).toEqual(['nothing', 'nothing', 'nothing']);
  });

  it('keep what was thought and what was said apart', () => {
    const { state } = after(
      append(1, 'hm', { channel: 'reasoning' }),
      append(2, 'yes'),
      append(3, '...', { channel: 'reasoning' })
    );
    expect(state.text).toBe('yes');
    expect(state.reasoning).toBe('hm...');
  });

  it('show a refusal as what was said', () => {
    const { state } = after(append(1, 'I will not.', { channel: 'refusal' }));
    expect(state.text).toBe('I will not.');
  });

  it('of an unknown channel count but are not shown', () => {
    const { state, needs } = after(
      append(1, 'a'),
      append(2, 'B', { channel: 'smell' }),
      append(3, '{}', { channel: 'tool' }),
      append(4, 'c')
    );
    expect(state.text).toBe('ac');
    expect(state.reasoning).toBe('');
    expect(state.seq).toBe(4);
    expect(needs).not.toContain('sync');
  });

  it('that came already are dropped', () => {
    const { state, needs } = after(
      append(1, 'a'),
      append(2, 'b'),
      append(2, 'b'),
      append(1, 'a')
    );
    expect(state.text).toBe('ab');
    expect(state.seq).toBe(2);
    expect(needs).toEqual(['nothing', 'nothing', 'nothing', 'nothing']);
  });

  it('without a number or text change nothing that is shown', () => {
    const { state } = after(
      append(1, 'a'),
      { op: 'append', channel: 'text', text: 'lost' },
      { op: 'append', seq: 2, channel: 'text', text: { html: '<b>' } }
    );
    expect(state.text).toBe('a');
  });

  it('bring their figures along and keep the older ones they do not bring', () => {
    const { state } = after(
      append(1, 'a', { ttft: 120.5, n: 1, ms: 130 }),
      append(2, 'b', { n: 7, ms: 400 }),
      append(3, 'c')
    );
    expect(state).toMatchObject({ ttft: 120.5, chunks: 7, elapsed: 400 });
  });

  it('start the clock where the kernel says it was, once', () => {
    const { state } = after(append(1, 'a', { ms: 130 }));
    expect(state.since).toBe(NOW - 130);
    take(state, append(2, 'b', { ms: 900 }), NOW + 1000);
    expect(state.since).toBe(NOW - 130);
  });
});

describe('a gap', () => {
  it('asks for a snapshot and takes nothing', () => {
    const { state } = after(append(1, 'a', { n: 1, ms: 10 }));
    const before = structuredClone(state);
    const need = take(state, append(3, 'c', { n: 9, ms: 90 }), NOW);
    expect(need).toBe('sync');
    expect(state).toEqual(before);
  });

  it('is healed by a snapshot, after which deltas follow on', () => {
    const { state, needs } = after(
      append(1, 'a'),
      append(3, 'c'),
      {
        op: 'snapshot',
        seq: 4,
        text: 'abcd',
        reasoning: 'hm',
        status: 'streaming'
      },
      append(4, 'd'),
      append(5, 'e')
    );
    expect(state.text).toBe('abcde');
    expect(state.reasoning).toBe('hm');
    expect(state.seq).toBe(5);
    expect(needs).toEqual(['nothing', 'sync', 'nothing', 'nothing', 'nothing']);
  });

  it('is not healed by a snapshot older than what is shown', () => {
    const { state } = after(append(1, 'a'), append(2, 'b'), {
      op: 'snapshot',
      seq: 1,
      text: 'a'
    });
    expect(state.text).toBe('ab');
    expect(state.seq).toBe(2);
    expect(take(state, append(3, 'c'), NOW)).toBe('nothing');
    expect(state.text).toBe('abc');
  });
});

describe('a snapshot', () => {
  const snapshot: Message = {
    seq: 12,
    text: 'so far',
    reasoning: 'because',
    status: 'streaming',
    tool_calls: [{ name: 'find', arguments: '{"a"' }],
    choices: [{ index: 1, text: 'other' }],
    spans: [80, 95.5, 3, 1, 300, 2400, 37, 0],
    meta: {
      model: 'acme/large',
      format: 'code',
      stream_id: 'r1',
      waited: 2500,
      still: 500,
      ttft: 80,
      n: 40,
      ms: 2400,
      thought: [80, 95],
      replayed: { of: '01H', speed: 2 }
    }
  };

  it('gives a page that was reloaded everything', () => {
    const state = initial();
    restore(state, snapshot, NOW);
    expect(state).toMatchObject({
      text: 'so far',
      reasoning: 'because',
      tools: [{ name: 'find', arguments: '{"a"' }],
      choices: [{ index: 1, text: 'other', reasoning: '', tools: [] }],
      spans: [
        { from: 80, to: 95.5, pieces: 3, channel: 'reasoning' },
        { from: 300, to: 2400, pieces: 37, channel: 'text' }
      ],
      grain: 8,
      thought: [80, 95],
      seq: 12,
      status: 'streaming',
      model: 'acme/large',
      format: 'code',
      streamId: 'r1',
      replayed: { of: '01H', speed: 2 },
      ttft: 80,
      elapsed: 2400,
      chunks: 40,
      since: NOW - 2500,
      moved: NOW - 500,
      progress: null,
      retryAt: null,
      bundle: null
    });
  });

  it('does not set the clock again', () => {
    const { state } = after({ op: 'state', state: 'waiting' });
    restore(state, snapshot, NOW + 9000);
    expect(state.since).toBe(NOW);
  });

  it('without names keeps those that are known', () => {
    const state = initial();
    restore(state, snapshot, NOW);
    restore(state, { seq: 13, text: 'so far.' }, NOW);
    expect(state).toMatchObject({
      text: 'so far.',
      model: 'acme/large',
      streamId: 'r1',
      status: 'streaming',
      ttft: 80
    });
  });

  it('of a run that is over asks to settle', () => {
    const { state, needs } = after({
      op: 'snapshot',
      ...snapshot,
      status: 'complete'
    });
    expect(needs).toEqual(['settle']);
    expect(state.status).toBe('complete');
  });

  it('that makes no sense leaves something that can be drawn', () => {
    const state = initial();
    const odd = {
      ...snapshot,
      choices: [null, { index: 'x', tool_calls: [null, 3] }],
      tool_calls: 'none',
      spans: [1, 2, 'x'],
      meta: { thought: [1] }
    };
    restore(state, odd, NOW);
    expect(state).toMatchObject({ tools: [], spans: [], thought: null });
    expect(state.choices.map(({ text }) => text)).toEqual(['', '']);
  });
});

describe('further choices', () => {
  it('are kept apart, in the order of their numbers', () => {
    const { state, needs } = after(
      append(1, 'a'),
      append(2, 'C', { choice: 2 }),
      append(3, 'B', { choice: 1 }),
      append(4, 'hm', { choice: 1, channel: 'reasoning' }),
      append(5, 'c', { choice: 2 })
    );
    expect(state.text).toBe('a');
    expect(state.choices).toMatchObject([
      { index: 1, text: 'B', reasoning: 'hm', tools: [] },
      { index: 2, text: 'Cc', reasoning: '', tools: [] }
    ]);
    expect(needs).not.toContain('sync');
  });

  it('without end are not all kept', () => {
    const state = initial();
    for (let n = 1; n <= 200; n++) {
      take(state, append(n, 'x', { choice: n * 1e6 }), NOW);
    }
    expect(state.choices).toHaveLength(64);
    expect(state.seq).toBe(200);
  });
});

describe('tool calls', () => {
  const call = (seq: number, text: string, rest: Message): Message =>
    append(seq, text, { channel: 'tool', ...rest });

  it('grow, each under its name', () => {
    const { state } = after(
      call(1, '{"a', { call: 0, name: 'find' }),
      call(2, '":1}', { call: 0 }),
      call(3, '', { call: 1, name: 'stop' }),
      call(4, '{}', { call: 1 }),
      call(5, 'lost', { call: 7 }),
      call(6, '{}', { call: 0, name: 'other', choice: 1 })
    );
    expect(state.tools).toEqual([
      { name: 'find', arguments: '{"a":1}' },
      { name: 'stop', arguments: '{}' }
    ]);
    expect(state.choices[0].tools).toEqual([
      { name: 'other', arguments: '{}' }
    ]);
    expect(state.text).toBe('');
  });
});

describe('when text came', () => {
  it('is kept to the mark, marks that follow closely as one', () => {
    const { state } = after(
      append(1, 'ab', { at: [100, 5, 20], ms: 126 }),
      append(2, 'c', { at: [140], ms: 140, channel: 'reasoning' }),
      append(3, 'd', { ms: 150 }),
      append(4, 'e', { at: [], ms: 150 })
    );
    expect(state.spans).toEqual([
      { from: 100, to: 105, pieces: 2, channel: 'text' },
      { from: 125, to: 125, pieces: 1, channel: 'text' },
      { from: 140, to: 140, pieces: 1, channel: 'reasoning' },
      { from: 150, to: 150, pieces: 1, channel: 'text' }
    ]);
    expect(state.elapsed).toBe(150);
    expect(state.thought).toEqual([140, 140]);
  });

  it('is not believed blindly', () => {
    const { state } = after(
      append(1, 'a', { at: 'soon', ms: 1 }),
      append(2, 'b', { at: ['x', null, 5], ms: 9 })
    );
    expect(state.spans.every(({ from }) => Number.isFinite(from))).toBe(true);
  });
});

describe('the status', () => {
  it('goes from starting by fetching, waiting and prefill to streaming', () => {
    const state = initial();
    const seen = [state.status];
    for (const message of [
      { op: 'state', state: 'fetching', text: '5 %', done: 1, total: 20 },
      { op: 'state', state: 'waiting' },
      { op: 'state', state: 'prefill' },
      append(1, 'a')
    ]) {
      take(state, message, NOW);
      seen.push(state.status);
    }
    expect(seen).toEqual([
      'starting',
      'fetching',
      'waiting',
      'prefill',
      'streaming'
    ]);
  });

  it('has a progress only while the model is fetched', () => {
    const { state } = after({
      op: 'state',
      state: 'fetching',
      text: '5 % of 2 GB',
      done: 1,
      total: 20
    });
    expect(state.progress).toEqual({ text: '5 % of 2 GB', done: 1, total: 20 });
    take(state, { op: 'state', state: 'waiting' }, NOW);
    expect(state.progress).toBeNull();
  });

  it('starts the clock when the request goes out', () => {
    const { state } = after({ op: 'state', state: 'starting' });
    expect(state.since).toBeNull();
    take(state, { op: 'state', state: 'waiting' }, NOW + 7);
    expect(state.since).toBe(NOW + 7);
  });

  it('is kept when a message names none', () => {
    const { state } = after({ op: 'state', state: 'waiting' }, { op: 'state' });
    expect(state.status).toBe('waiting');
  });

  it('is kept by a message that is not known', () => {
    const { state, needs } = after(append(1, 'a'), {
      op: 'explode',
      state: 'waiting',
      text: 'x'
    });
    expect(needs[1]).toBe('nothing');
    expect(state).toMatchObject({ status: 'streaming', text: 'a' });
  });
});

describe('what a run bears and what went wrong with it', () => {
  it('is told with a state, or in a snapshot, and stays', () => {
    const { state } = after(
      { op: 'state', state: 'starting', idle: 60, timeout: 120 },
      { op: 'state', state: 'failed', problem: 'no key' },
      { op: 'snapshot', seq: 0, status: 'failed', meta: {} }
    );
    expect([state.idle, state.problem]).toEqual([60_000, 'no key']);
    expect(state.timeout).toBe(120_000);
    const meta = { idle: 0.3, problem: 'no key' };
    const restored = after({ op: 'snapshot', seq: 0, status: 'failed', meta });
    expect([restored.state.idle, restored.state.problem]).toEqual([
      300,
      'no key'
    ]);
  });
});

describe('settled', () => {
  it('tells the outcome and asks to settle', () => {
    const { state, needs } = after(append(1, 'a'), {
      op: 'settled',
      outcome: 'stopped'
    });
    expect(needs).toEqual(['nothing', 'settle']);
    expect(state.status).toBe('stopped');
    expect(state.bundle).toBeNull();
  });

  it('brings the bundle to a page that was reloaded', () => {
    const { state } = after({
      op: 'settled',
      outcome: 'complete',
      bundle: BUNDLE
    });
    expect(state.bundle).toEqual(BUNDLE);
  });

  it('has its bundle when the page asked for it and there is one', () => {
    const { state, needs } = after(
      { op: 'settled', outcome: 'complete' },
      { op: 'bundle', bundle: null },
      { op: 'bundle', bundle: BUNDLE }
    );
    expect(needs).toEqual(['settle', 'nothing', 'settle']);
    expect(state.bundle).toEqual(BUNDLE);
  });

  it('is not the end of one column among several: that is a state', () => {
    const { state, needs } = after(
      { op: 'stopping' },
      { op: 'state', state: 'stopped' }
    );
    expect(needs).toEqual(['nothing', 'nothing']);
    expect(state.status).toBe('stopped');
  });
});

describe('stopping', () => {
  it('is shown as soon as the kernel says so', () => {
    const { state, needs } = after(append(1, 'a'), { op: 'stopping' });
    expect(state.status).toBe('stopping');
    expect(needs[1]).toBe('nothing');
  });

  it('is not undone by a late append, whose text is kept', () => {
    const { state } = after(append(1, 'a'), { op: 'stopping' }, append(2, 'b'));
    expect(state.status).toBe('stopping');
    expect(state.text).toBe('ab');
  });

  it('gives way to the outcome', () => {
    const { state } = after(
      { op: 'stopping' },
      { op: 'snapshot', seq: 0, text: '', status: 'stopped' }
    );
    expect(state.status).toBe('stopped');
  });

  it('is not undone by a late state', () => {
    const { state } = after(
      { op: 'stopping' },
      { op: 'state', state: 'prefill' }
    );
    expect(state.status).toBe('stopping');
  });

  it('is not undone by a snapshot that still streams', () => {
    const { state } = after(
      append(1, 'a'),
      { op: 'stopping' },
      { op: 'snapshot', seq: 2, text: 'ab', status: 'streaming' }
    );
    expect(state.status).toBe('stopping');
  });
});

describe.each(OUTCOMES)('the outcome %s', outcome => {
  function ended(): StreamState {
    const state = initial();
    restore(state, { seq: 3, text: 'abc', status: outcome }, NOW);
    return state;
  }

  it('ends the run', () => {
    expect(isOver(initial())).toBe(false);
    expect(isOver(ended())).toBe(true);
  });

  it.each<[string, Message]>([
    ['a late append', append(4, 'd')],
    ['a late state', { op: 'state', state: 'waiting' }],
    ['a late stop', { op: 'stopping' }],
    ['the bundle', { op: 'bundle', bundle: BUNDLE }],
    ['a gap', append(9, 'z')]
  ])('is not undone by %s', (_, message) => {
    const state = ended();
    take(state, message, NOW);
    expect(state.status).toBe(outcome);
  });

  it('is not undone by a snapshot taken before it', () => {
    const state = ended();
    take(
      state,
      { op: 'snapshot', seq: 2, text: 'ab', status: 'streaming' },
      NOW
    );
    expect(state.text).toBe('abc');
    expect(state.status).toBe(outcome);
  });
});

describe('what is new of a text', () => {
  it('is there piece by piece, and another growth where it does not go on', () => {
    const state = initial();
    take(state, append(1, 'ab'), NOW);
    const { text } = state.grown;
    take(state, append(2, 'c'), NOW);
    take(state, append(3, 'd', { channel: 'reasoning' }), NOW);
    expect(text.since(1)).toBe('c');
    expect(text.length).toBe(state.text.length);
    expect(state.grown.reasoning.since(0)).toBe('d');
    restore(state, { seq: 9, text: 'other' }, NOW);
    expect(state.grown.text).not.toBe(text);
    expect(state.grown.text.since(0)).toBe('other');
  });
});
