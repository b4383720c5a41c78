// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { OUTCOMES, StreamState, initial } from '../state';
import type { ISettled } from './settled';
import { StreamView } from './stream';

const MARKUP = '<img src=x onerror="window.hit = 1">';
const FRAME_MS = 20;
/** The figures follow the text within this. */
const CLOCK_MS = 100;

let view: StreamView;
let stop: ReturnType<typeof vi.fn<() => void>>;

beforeEach(() => {
  vi.useFakeTimers();
  stop = vi.fn<() => void>();
  view = new StreamView(null, stop);
  document.body.appendChild(view.node);
});

afterEach(() => {
  view.dispose();
  view.node.remove();
  vi.useRealTimers();
});

function streaming(rest: Partial<StreamState> = {}): StreamState {
  return {
    ...initial(),
    status: 'streaming',
    model: 'acme/large',
    text: 'Hello',
    ...rest
  };
}

function transcript(rest: Partial<ISettled> = {}): ISettled {
  return {
    model: 'acme/large',
    outcome: 'complete',
    text: 'Hello',
    about: {},
    ...rest
  };
}

/** Shows a state and lets its frame come. */
function draw(state: StreamState): void {
  view.update(state);
  vi.advanceTimersByTime(FRAME_MS);
}

function all(selector: string): HTMLElement[] {
  return [...view.node.querySelectorAll<HTMLElement>(selector)];
}

function visible(selector: string): HTMLElement[] {
  return all(selector).filter(node => !node.closest('[hidden]'));
}

/** What a reader sees, without what only a screen reader is told. */
function seen(): string {
  const copy = view.node.cloneNode(true) as HTMLElement;
  copy.querySelectorAll('[hidden], [aria-live]').forEach(node => node.remove());
  return copy.textContent ?? '';
}

function figures(): string[] {
  return visible('.ts-Figure').map(({ children }) =>
    [...children].map(node => node.textContent).join(' ')
  );
}

function announcer(): HTMLElement {
  const found = visible('[aria-live]');
  expect(found).toHaveLength(1);
  return found[0];
}

describe('a live view', () => {
  it.each(['starting', 'fetching', 'waiting', 'prefill', 'streaming'])(
    'has exactly one button, named Stop, while it is %s',
    status => {
      draw(streaming({ status }));
      const buttons = visible('button');
      expect(buttons.map(button => button.textContent)).toEqual(['Stop']);
      expect(buttons[0].getAttribute('aria-label')).toBeNull();
      expect((buttons[0] as HTMLButtonElement).disabled).toBe(false);
    }
  );

  it('is a region labelled with the model', () => {
    draw(streaming());
    expect(view.node.getAttribute('role')).toBe('region');
    expect(view.node.getAttribute('aria-label')).toBe('Answer of acme/large');
  });

  it('shows the answer and what was thought', () => {
    draw(streaming({ text: 'Yes.', reasoning: 'Let me see' }));
    expect(visible('.ts-Answer')[1].textContent).toBe('Yes.');
    expect(visible('details')[0].textContent).toContain('Let me see');
  });

  it('has no place for thoughts where there are none', () => {
    draw(streaming());
    expect(visible('details')).toEqual([]);
  });

  it('says in the frame that draws it what it drew, and what that took', () => {
    const drew = vi.fn<(seq: number, work: number) => void>();
    view.drew = drew;
    view.update(streaming({ seq: 3 }));
    view.update(streaming({ seq: 4 }));
    expect(drew).not.toHaveBeenCalled();
    vi.advanceTimersByTime(FRAME_MS);
    expect(drew.mock.calls.map(([seq]) => seq)).toEqual([4]);
    expect(drew.mock.calls[0][1]).toBeGreaterThanOrEqual(0);
    vi.advanceTimersByTime(1000);
    expect(drew).toHaveBeenCalledTimes(1);
  });

  it('is drawn once a frame however much comes, with the latest', () => {
    const frames = vi.spyOn(window, 'requestAnimationFrame');
    for (let n = 1; n <= 50; n++) {
      view.update(streaming({ text: 'x'.repeat(n) }));
    }
    expect(frames).toHaveBeenCalledTimes(1);
    expect(seen()).not.toContain('x');
    vi.advanceTimersByTime(FRAME_MS);
    expect(seen()).toContain('x'.repeat(50));
    view.update(streaming({ text: 'x'.repeat(51) }));
    expect(frames).toHaveBeenCalledTimes(2);
  });

  it('tells the time while it waits', () => {
    draw(streaming({ status: 'waiting', since: performance.now(), text: '' }));
    vi.advanceTimersByTime(3000);
    expect(seen()).toMatch(/waiting for the first token 3\.\d s/);
  });

  it('shows how far the model is fetched, until it is', () => {
    draw(
      streaming({
        status: 'fetching',
        progress: { text: '5 % of 2 GB', done: 1, total: 20 }
      })
    );
    const [bar] = visible('progress') as HTMLProgressElement[];
    expect([bar.value, bar.max]).toEqual([1, 20]);
    expect(bar.getAttribute('aria-label')).toBe('Fetching the model');
    expect(seen()).toContain('5 % of 2 GB');
    draw(streaming());
    expect(visible('progress')).toEqual([]);
  });

  it('gives a rate only when it has one', () => {
    const since = performance.now();
    draw(streaming({ ttft: 100, elapsed: 100, chunks: 1, since }));
    expect(figures()).toEqual([
      '100 ms first token',
      '1 chunks',
      '0.0 s elapsed'
    ]);
    draw(streaming({ ttft: 100, elapsed: 105, chunks: 2, since }));
    vi.advanceTimersByTime(CLOCK_MS);
    expect(figures().join()).not.toContain('chunks/s');
    draw(streaming({ ttft: 100, elapsed: 1100, chunks: 21, since }));
    vi.advanceTimersByTime(CLOCK_MS);
    expect(figures()).toContain('20 chunks/s');
  });

  it('leaves no timer behind when it is disposed', () => {
    view.update(streaming());
    expect(vi.getTimerCount()).toBe(2);
    view.dispose();
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('Stop', () => {
  function press(): HTMLButtonElement {
    const [button] = visible('button') as HTMLButtonElement[];
    button.click();
    return button;
  }

  it('calls stop once and says so at once', () => {
    draw(streaming());
    press();
    expect(stop).toHaveBeenCalledTimes(1);
    expect(seen()).toContain('stopping…');
  });

  it('cannot be pressed twice', () => {
    draw(streaming());
    press().click();
    vi.advanceTimersByTime(1000);
    press();
    expect(stop).toHaveBeenCalledTimes(1);
  });

  it('is not called by drawing', () => {
    draw(streaming());
    draw(streaming({ status: 'stopping' }));
    view.settle(transcript({ outcome: 'stopped', stop_cause: 'button' }));
    expect(stop).not.toHaveBeenCalled();
  });

  it('is still said when more text comes in', () => {
    draw(streaming());
    press();
    draw(streaming({ text: 'Hello, late' }));
    expect(seen()).toContain('Hello, late');
    vi.advanceTimersByTime(CLOCK_MS);
    expect(seen()).toContain('stopping…');
    expect(announcer().textContent).toBe('stopping…');
  });

  it('that came from elsewhere is said too', () => {
    draw(streaming({ status: 'stopping' }));
    expect(seen()).toContain('stopping…');
  });

  it('leaves the focus with the run when its button goes', () => {
    draw(streaming());
    visible('button')[0].focus();
    view.settle(transcript());
    expect(document.activeElement).toBe(view.node.querySelector('header'));
  });

  it('does not take the focus from elsewhere', () => {
    draw(streaming());
    view.settle(transcript());
    expect(document.activeElement).toBe(document.body);
  });
});

describe('what is wrong with a running view', () => {
  const problems = (): (string | null)[] =>
    visible('.ts-Problem').map(node => node.textContent);

  it('is said of one that is over before its transcript is there', () => {
    const message = `404: ${MARKUP}. Ask again.`;
    draw(streaming({ problem: message }));
    expect(problems()).toEqual([]);
    draw(streaming({ status: 'failed', text: '', problem: message }));
    expect(problems()).toEqual([message]);
    expect(visible('.ts-Problem')[0].dataset.outcome).toBe('failed');
    expect(all('img')).toEqual([]);
  });

  it('is a pause that lasts, with the option that ends it, until text comes', () => {
    const spans = [{ from: 10, to: 20, pieces: 9, channel: 'text' }];
    const state = streaming({ spans, chunks: 9, since: performance.now() });
    draw({ ...state, idle: null });
    vi.advanceTimersByTime(8000);
    expect(problems()).toEqual([]);
    draw({ ...state, idle: 60_000, since: performance.now() });
    vi.advanceTimersByTime(4900);
    expect(problems()).toEqual([]);
    vi.advanceTimersByTime(1200);
    expect(problems()).toEqual([
      'no progress for 6\u00a0s · given up after 60\u00a0s (--idle-timeout)'
    ]);
    const more = { from: 6000, to: 6100, pieces: 1, channel: 'text' };
    draw({
      ...state,
      spans: [...spans, more],
      since: performance.now() - 6150
    });
    vi.advanceTimersByTime(CLOCK_MS);
    expect(problems()).toEqual([]);
  });

  it.each(['waiting', 'prefill'])(
    'is a wait for the first token that lasts, when %s, counted from the last sign of life',
    status => {
      const state = { text: '', status, idle: 60_000, timeout: 120_000 };
      const now = performance.now();
      draw(streaming({ ...state, since: now - 4000, moved: now }));
      vi.advanceTimersByTime(4900);
      expect(problems()).toEqual([]);
      vi.advanceTimersByTime(1200);
      expect(problems()).toEqual([
        'no token for 6\u00a0s · given up after 120\u00a0s (--timeout)'
      ]);
      draw(streaming({ ...state, since: now, timeout: null, moved: now }));
      vi.advanceTimersByTime(CLOCK_MS);
      expect(problems()).toEqual([]);
      draw(streaming({ ...state, since: now, moved: performance.now() }));
      vi.advanceTimersByTime(CLOCK_MS);
      expect(problems()).toEqual([]);
    }
  );

  it('is told sooner where little is borne', () => {
    const spans = [{ from: 10, to: 20, pieces: 9, channel: 'text' }];
    draw(streaming({ spans, chunks: 9, since: performance.now(), idle: 3000 }));
    vi.advanceTimersByTime(1700);
    expect(problems()).toEqual([
      'no progress for 1.6\u00a0s · given up after 3\u00a0s (--idle-timeout)'
    ]);
  });
});

describe('a settled view', () => {
  it.each([...OUTCOMES, 'unheard of', undefined])(
    'has no button when the outcome is %s',
    outcome => {
      draw(streaming());
      view.settle(transcript({ outcome }));
      expect(visible('button')).toEqual([]);
    }
  );

  it('has no progress left of a fetch that failed', () => {
    const progress = { text: '5 %', done: 1, total: 20 };
    draw(streaming({ status: 'fetching', progress }));
    expect(visible('progress')).toHaveLength(1);
    view.settle(transcript({ outcome: 'failed', text: '' }));
    expect(visible('progress')).toEqual([]);
  });

  it('has no button when it was never live', () => {
    view.settle(transcript());
    expect(visible('button')).toEqual([]);
    expect(view.node.getAttribute('aria-label')).toBe('Answer of acme/large');
    expect(seen()).toContain('Hello');
  });

  it('is not drawn over by a frame or a tick that was due', () => {
    draw(streaming());
    view.update(streaming({ text: 'Hello, late' }));
    view.settle(transcript());
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(1000);
    expect(seen()).toContain('complete');
    expect(seen()).not.toContain('late');
  });

  it('shows the message of a failure as text', () => {
    const message = `500: ${MARKUP}`;
    view.settle(
      transcript({ outcome: 'failed', text: '', error: { message } })
    );
    expect(visible('.ts-Problem').map(node => node.textContent)).toEqual([
      message
    ]);
    expect(all('img')).toEqual([]);
    expect(seen()).toContain('failed');
  });

  it('keeps what had arrived before a failure', () => {
    view.settle(
      transcript({ outcome: 'failed', error: { message: 'cut off' } })
    );
    expect(seen()).toContain('Hello');
    expect(seen()).toContain('cut off');
  });

  it('says why an answer is not whole, and nothing of the kind when it is', () => {
    const about = { diagnostics: ['the connection closed early'] };
    view.settle(transcript({ outcome: 'truncated', about }));
    expect(visible('.ts-Problem')[0].textContent).toBe(about.diagnostics[0]);
    view.settle(transcript({ about }));
    expect(visible('.ts-Problem')).toEqual([]);
  });

  it.each([
    [{ of: '01H', speed: 1 }, 'replay of 01H'],
    [
      { of: '01H', speed: 'instant', as: 'buffered' },
      'replay of 01H · as buffered · at once'
    ],
    [{ of: MARKUP, speed: 0.5, note: 'x' }, `replay of ${MARKUP} · 0.5× · x`]
  ])('says what it is a replay of, live and settled: %j', (replayed, words) => {
    draw(streaming({ replayed }));
    expect(visible('.ts-Origin').map(node => node.textContent)).toEqual([
      words
    ]);
    view.settle(transcript({ about: { replayed } }));
    expect(visible('.ts-Origin')[0].textContent).toBe(words);
    expect(all('img')).toEqual([]);
    view.settle(transcript({ about: { replayed: 'yes' } }));
    expect(visible('.ts-Origin')).toEqual([]);
  });

  it.each([
    ['button', 'stopped by you'],
    ['interrupt', 'stopped by an interrupt'],
    ['api', 'stopped by a call'],
    ['limit:time', 'stopped at its time limit'],
    ['limit:tokens', 'stopped at its token limit'],
    [null, 'stopped']
  ])('says what stopped it (%s)', (stop_cause, words) => {
    view.settle(transcript({ outcome: 'stopped', stop_cause }));
    expect(announcer().textContent).toBe(words);
    expect(seen()).toContain(words);
  });

  it('says when an answer was cut at its length', () => {
    view.settle(transcript({ finish_reason: 'length' }));
    expect(seen()).toContain('complete, cut at max_tokens');
  });

  it('shows a refusal as the answer', () => {
    view.settle(transcript({ text: '', refusal: 'I will not.' }));
    expect(seen()).toContain('I will not.');
  });

  it('shows tokens where the server counted them, and chunks where not', () => {
    const timing = { chunks: 30, ttft_ms: 80, e2e_ms: 2000 };
    const usage = { output_tokens: 28 };
    view.settle(transcript({ about: { timing, usage } }));
    expect(figures()).toEqual([
      '80 ms first token',
      '28 tokens',
      '2.00 s total'
    ]);
    view.settle(transcript({ about: { timing } }));
    expect(figures()).toEqual([
      '80 ms first token',
      '30 chunks',
      '2.00 s total'
    ]);
  });

  it('says of a run that did not end well how long it took, silence included', () => {
    const timing = { chunks: 3, ttft_ms: 80, e2e_ms: 120 };
    const timeline = { moments_ms: { closed: 30_120, stop_requested: null } };
    const about = { timing, timeline };
    view.settle(transcript({ outcome: 'truncated', about }));
    expect(figures()).toContain('30.1 s total');
    view.settle(transcript({ about }));
    expect(figures()).toContain('120 ms total');
    const moments_ms = { stop_requested: 2100, closed: 2101 };
    const nothing = { timing: {}, timeline: { moments_ms } };
    view.settle(transcript({ outcome: 'stopped', about: nothing }));
    expect(figures()).toEqual(['2.10 s total']);
    view.settle(transcript({ outcome: 'failed', about: nothing }));
    expect(figures()).toEqual([]);
  });

  it('keeps every text of the model text', () => {
    view.settle(
      transcript({
        model: MARKUP,
        text: MARKUP,
        reasoning: MARKUP,
        outcome: MARKUP,
        tool_calls: [{ name: MARKUP, arguments: MARKUP }],
        error: { message: MARKUP }
      })
    );
    expect(all('img')).toEqual([]);
    // model, words, thoughts, answer, twice in the tool call, problem
    expect(seen().split(MARKUP)).toHaveLength(8);
    expect(view.node.getAttribute('aria-label')).toBe(`Answer of ${MARKUP}`);
  });
});

describe('a change of state', () => {
  it('is announced politely', () => {
    view.update(streaming());
    expect(announcer().getAttribute('aria-live')).toBe('polite');
    expect(announcer().getAttribute('role')).toBe('status');
  });

  it.each([
    ['starting', 'starting the model…'],
    ['fetching', 'fetching the model'],
    ['waiting', 'waiting for the first token'],
    ['prefill', 'waiting for the first token'],
    ['streaming', 'streaming'],
    ['stopping', 'stopping…'],
    ['lost', 'the kernel ended; this is what had arrived']
  ])('to %s is announced', (status, words) => {
    draw(streaming({ status }));
    expect(announcer().textContent).toBe(words);
  });

  it.each([
    ['complete', 'complete'],
    ['truncated', 'truncated: the answer is not whole'],
    ['failed', 'failed']
  ])('to the outcome %s is announced', (outcome, words) => {
    draw(streaming());
    view.settle(transcript({ outcome }));
    expect(announcer().textContent).toBe(words);
  });

  it('is announced once, not at every tick or piece', () => {
    const state = streaming({ status: 'waiting', since: 0, text: '' });
    draw(state);
    const words = seen();
    const observer = new MutationObserver(() => undefined);
    observer.observe(announcer(), {
      characterData: true,
      childList: true,
      subtree: true
    });
    vi.advanceTimersByTime(2000);
    expect(seen()).not.toBe(words);
    expect(observer.takeRecords()).toEqual([]);
    draw({ ...state, status: 'streaming', text: 'a' });
    expect(observer.takeRecords()).not.toEqual([]);
    draw({ ...state, status: 'streaming', text: 'ab' });
    expect(observer.takeRecords()).toEqual([]);
  });
});

describe('a view that lost its kernel', () => {
  it('has no button and keeps what had arrived', () => {
    draw(streaming());
    draw(streaming({ status: 'lost' }));
    expect(visible('button')).toEqual([]);
    expect(seen()).toContain('the kernel ended; this is what had arrived');
    expect(seen()).toContain('Hello');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('says so also when Stop had been pressed', () => {
    draw(streaming());
    visible('button')[0].click();
    draw(streaming({ status: 'lost' }));
    expect(seen()).toContain('the kernel ended; this is what had arrived');
  });

  it('shows how a column ended and why, when that was saved', () => {
    const problem = `404: ${MARKUP}`;
    view.show({ model: 'acme/large', outcome: 'failed', problem });
    expect(view.node.dataset.state).toBe('failed');
    expect(visible('.ts-Words')[0].textContent).toBe('failed');
    const problems = visible('.ts-Problem');
    expect(problems.map(node => node.textContent)).toEqual([problem]);
    view.show({ model: 'acme/large', outcome: 'untold', problem });
    expect(visible('.ts-Problem')).toEqual([]);
    expect(seen()).toContain('not connected: this is what was saved');
  });

  it('shows what was saved, without a button', () => {
    view.show({ model: 'acme/large', text: 'Hello', reasoning: 'hm' });
    expect(visible('button')).toEqual([]);
    expect(seen()).toContain('not connected: this is what was saved');
    expect(seen()).toContain('Hello');
    expect(visible('details')[0].textContent).toContain('hm');
    expect(view.node.getAttribute('aria-label')).toBe('Answer of acme/large');
  });
});

it('a run that is over has no button, before it is settled', () => {
  draw(streaming({ status: 'complete' }));
  expect(visible('button')).toEqual([]);
});
