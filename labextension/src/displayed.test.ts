// @vitest-environment jsdom
import { Signal } from '@lumino/signaling';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { type IDisplayed, displayedOf, putDisplayed } from './displayed';
import { StreamModel } from './model';
import { MIME } from './state';

// what of the widget model the stream's uses
vi.mock('@jupyter-widgets/base', () => ({
  WidgetModel: class {
    readonly comm_live = true;
    readonly model_id = 'model-1';
    readonly sent: Record<string, unknown>[] = [];
    private calls = new Map<string, (message: unknown) => void>();
    constructor(readonly widget_manager: unknown) {}
    initialize(): void {
      // nothing
    }
    on(event: string, call: (message: unknown) => void, self: unknown): void {
      this.calls.set(event, call.bind(self));
    }
    trigger(event: string, message: unknown): void {
      this.calls.get(event)?.(message);
    }
    send(message: Record<string, unknown>): void {
      this.sent.push(message);
    }
  }
}));

const FIGURES: IDisplayed = {
  messages: 50,
  p50: 17000,
  p99: 35000,
  most: 36000,
  last: 20000,
  error: 300,
  work: 900
};
const NEWER: IDisplayed = { ...FIGURES, messages: 51, last: 21000 };

type Output = Record<string, unknown>;

/** Outputs as JupyterLab holds them, which tell how often one was set. */
class Outputs {
  sets = 0;
  constructor(private outputs: Output[]) {}
  get length(): number {
    return this.outputs.length;
  }
  get(index: number): { toJSON(): Output } {
    return { toJSON: () => this.outputs[index] };
  }
  set(index: number, value: Output): void {
    this.sets++;
    this.outputs[index] = structuredClone(value);
  }
  clear(): void {
    this.outputs.length = 0;
  }
}

function about(id: string, displayed?: unknown): Output {
  const timeline = { moments_ms: {}, reads: 3, delta_us: [1, 2] };
  return {
    id,
    timing: { ttft_ms: 100 },
    timeline: displayed ? { ...timeline, displayed_us: displayed } : timeline
  };
}

function settled(tokenstream: unknown, rest: Output = {}): Output {
  return {
    output_type: 'display_data',
    data: {
      [MIME]: { status: 'settled', text: 'said' },
      'text/plain': 'said'
    },
    metadata: { tokenstream, other: [1] },
    ...rest
  };
}

function live(): Output {
  const data = {
    [MIME]: { status: 'live', model_id: 'model-1', stream_id: 'run-1' }
  };
  return { output_type: 'display_data', data, metadata: {} };
}

function aboutOf(outputs: Outputs): Output | undefined {
  const { metadata } = outputs.get(0).toJSON();
  return (metadata as Output).tokenstream as Output | undefined;
}

function kept(outputs: Outputs): unknown {
  return (aboutOf(outputs)?.timeline as Output | undefined)?.displayed_us;
}

describe('what a kernel says of the display', () => {
  it('is seven whole numbers, or nothing', () => {
    expect(displayedOf({ ...FIGURES, '<script>': 'x' })).toEqual(FIGURES);
    const { work, ...without } = FIGURES;
    for (const bad of [
      null,
      undefined,
      'p50',
      [work],
      without,
      { ...FIGURES, p50: -1 },
      { ...FIGURES, p50: 1.5 },
      { ...FIGURES, p50: '17000' },
      { ...FIGURES, p50: Infinity },
      { ...FIGURES, p50: { toString: () => '1' } }
    ]) {
      expect(displayedOf(bad)).toBeNull();
    }
  });

  it('changes that figure of that output and nothing else', () => {
    const others = [
      settled(about('run-2')),
      { ...settled(about('run-1')), output_type: 'execute_result' },
      settled(about('run-1'), { data: { 'text/plain': 'said' } }),
      settled({ id: 'run-1', timeline: 'none' }),
      settled(['run-1']),
      live(),
      { output_type: 'stream', name: 'stdout', text: 'run-1' }
    ];
    const outputs = new Outputs([...others, settled(about('run-1'))]);
    const before = structuredClone(others);
    expect(putDisplayed([{}, { outputs }], 'run-1', FIGURES)).toBe(true);
    expect(outputs.sets).toBe(1);
    expect(others).toEqual(before);
    expect(outputs.get(7).toJSON()).toEqual(settled(about('run-1', FIGURES)));
    expect(putDisplayed([{ outputs }], 'run-1', FIGURES)).toBe(true);
    expect(outputs.sets).toBe(1);
    expect(putDisplayed([{ outputs }], 'run-3', FIGURES)).toBe(false);
  });

  it('finds its column among several', () => {
    const columns = [about('run-0', NEWER), 'torn', about('run-1')];
    const outputs = new Outputs([settled({ columns })]);
    expect(putDisplayed([{ outputs }], 'run-1', FIGURES)).toBe(true);
    expect(aboutOf(outputs)?.columns).toEqual([
      about('run-0', NEWER),
      'torn',
      about('run-1', FIGURES)
    ]);
    expect(putDisplayed([{ outputs }], 'run-1', FIGURES)).toBe(true);
    expect(outputs.sets).toBe(1);
    expect(putDisplayed([{ outputs }], 'run-5', FIGURES)).toBe(false);
  });
});

describe('the settled output of a stream', () => {
  let outputs: Outputs;
  let notebook: Output;
  let model: StreamModel;
  const saveState = new Signal<object, string>({});

  beforeEach(() => {
    outputs = new Outputs([settled(about('run-1'))]);
    notebook = { cells: [{ outputs }], readOnly: false, collaborative: false };
    open('complete');
  });

  /** A page comes by the model of a stream. */
  function open(status: string, meta: Output = {}): void {
    const changes = new Signal<object, string>({});
    const sessionContext = {
      connectionStatusChanged: changes,
      statusChanged: changes
    };
    const context = {
      model: notebook,
      saveState,
      sessionContext,
      ready: Promise.resolve()
    };
    Signal.disconnectAll(saveState);
    const Made = StreamModel as unknown as new (manager: object) => StreamModel;
    model = new Made({ context });
    const attributes = { status, meta: { stream_id: 'run-1', ...meta } };
    model.initialize(attributes, {} as never);
  }

  function say(displayed: unknown): void {
    model.trigger('msg:custom', { op: 'displayed', displayed });
  }

  it('gets the figures that come after it, each once', () => {
    say(FIGURES);
    say({ ...FIGURES });
    expect([outputs.sets, kept(outputs)]).toEqual([1, FIGURES]);
    // whatever a reader makes of them then stays
    outputs.set(0, settled(about('run-1')));
    say({ ...FIGURES });
    model.drew(1, 0);
    saveState.emit('started');
    saveState.emit('completed');
    expect([outputs.sets, kept(outputs)]).toEqual([2, undefined]);
    say(NEWER);
    expect([outputs.sets, kept(outputs)]).toEqual([3, NEWER]);
  });

  it('is left alone by what is no figure, of another run, or too late', () => {
    say({ ...FIGURES, p50: 'NaN' });
    say('x');
    expect(outputs.sets).toBe(0);
    outputs.set(0, settled(about('run-2')));
    say(FIGURES);
    outputs.clear();
    say(NEWER);
    expect([outputs.sets, outputs.length]).toEqual([1, 0]);
  });

  it('may come after its figures', () => {
    outputs.set(0, live());
    say(FIGURES);
    expect(outputs.sets).toBe(1);
    outputs.set(0, settled(about('run-1')));
    model.drew(1, 0); // its view draws it
    expect(kept(outputs)).toEqual(FIGURES);
  });

  it('may be written by the page itself, after a reload', () => {
    outputs.set(0, live());
    open('streaming');
    say(FIGURES);
    expect(kept(outputs)).toBeUndefined();
    const { output_type, ...bundle } = settled(about('run-1'));
    const message = { op: 'settled', outcome: 'complete', bundle };
    model.trigger('msg:custom', message);
    expect(output_type).toBe('display_data');
    expect(kept(outputs)).toEqual(FIGURES);
  });

  it('gets what a page that was away meanwhile learns with the rest', () => {
    open('complete', { displayed: FIGURES });
    model.drew(1, 0);
    expect(kept(outputs)).toEqual(FIGURES);
    open('complete');
    const meta = { displayed: NEWER };
    model.trigger('msg:custom', { op: 'snapshot', seq: 1, meta });
    expect(kept(outputs)).toEqual(NEWER);
    expect(outputs.sets).toBe(2);
  });

  it('is not changed while it is saved, which would count as saved', () => {
    saveState.emit('started');
    say(FIGURES);
    expect(outputs.sets).toBe(0);
    saveState.emit('completed');
    expect([outputs.sets, kept(outputs)]).toEqual([1, FIGURES]);
  });

  it('is saved with the figures that were there before', () => {
    outputs.set(0, live());
    say(FIGURES);
    outputs.set(0, settled(about('run-1')));
    saveState.emit('started');
    expect(kept(outputs)).toEqual(FIGURES);
  });

  it('stays as it is in a notebook that may not be changed or is shared', () => {
    for (const kind of ['readOnly', 'collaborative']) {
      notebook[kind] = true;
      say(FIGURES);
      saveState.emit('started');
      saveState.emit('completed');
      expect(outputs.sets).toBe(0);
      notebook[kind] = false;
    }
  });
});
