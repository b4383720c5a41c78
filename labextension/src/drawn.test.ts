// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Drawn, IDrawn, REPORT_MS } from './drawn';

let told: IDrawn[];
let drawn: Drawn;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  told = [];
  drawn = new Drawn(report => told.push(report));
});

afterEach(() => {
  drawn.dispose();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** Lets the task after the paint come. */
async function painted(): Promise<void> {
  await new Promise<void>(done => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      done();
    };
    channel.port2.postMessage(null);
  });
}

/** Message number `seq` comes, waits for its frame, and is painted. */
async function draw(seq: number, waits = 10, over = false): Promise<void> {
  drawn.received(seq, performance.now());
  vi.advanceTimersByTime(waits);
  drawn.drew(seq, 0.5, over);
  await painted();
}

function look(state: 'visible' | 'hidden'): void {
  vi.spyOn(document, 'visibilityState', 'get').mockReturnValue(state);
  document.dispatchEvent(new Event('visibilitychange'));
}

function messages(report: IDrawn): number[] {
  return report.frames.map(([count]) => count);
}

describe('what a page tells of its drawing', () => {
  it('is one report a second, with every frame and when it was painted', async () => {
    for (let seq = 1; seq <= 60; seq++) {
      await draw(seq, 16);
    }
    expect(told).toEqual([]);
    vi.advanceTimersByTime(REPORT_MS);
    expect(told).toHaveLength(1);
    expect(told[0].seq).toBe(60);
    expect(messages(told[0])).toEqual(Array(60).fill(1));
    expect(told[0].frames.map(([, received, at]) => received! - at!)).toEqual(
      Array(60).fill(expect.closeTo(16, 5))
    );
    expect(told[0].work).toBeCloseTo(30);
    expect(JSON.stringify(told[0]).length).toBeLessThan(60 * 20);
    vi.advanceTimersByTime(10 * REPORT_MS);
    expect(told).toHaveLength(1);
  });

  it('counts the messages of a frame, and a report goes on where the last ended', async () => {
    for (const seq of [1, 2]) {
      drawn.received(seq, performance.now());
    }
    await draw(3);
    vi.advanceTimersByTime(REPORT_MS);
    await draw(5);
    vi.advanceTimersByTime(REPORT_MS);
    expect(told.map(report => [report.seq, messages(report)])).toEqual([
      [3, [3]],
      [5, [2]]
    ]);
  });

  it('comes at once with the end, and once', async () => {
    await draw(1, 10, true);
    drawn.drew(1, 0.5, true);
    await painted();
    vi.advanceTimersByTime(REPORT_MS);
    expect(told).toHaveLength(1);
  });

  it('does not hold against a page what came while nobody saw it', async () => {
    await draw(1);
    look('hidden');
    drawn.received(2, performance.now());
    vi.advanceTimersByTime(5000);
    look('visible');
    await draw(3);
    await draw(4);
    drawn.tell();
    const frames = told.flatMap(report => report.frames);
    expect(frames.map(([count]) => count)).toEqual([1, 1, 1, 1]);
    expect(frames.map(([, , at]) => at !== null)).toEqual([
      true,
      false,
      true,
      true
    ]);
  });

  it('leaves out what came before there was a view, or before the page', async () => {
    drawn.dispose();
    drawn = new Drawn(report => told.push(report), 7);
    drawn.received(8, performance.now());
    vi.advanceTimersByTime(5000);
    drawn.skip();
    await draw(9, 10, true);
    expect(told[0].frames[0]).toEqual([1, null, null]);
    expect(messages(told[0])).toEqual([1, 1]);
  });
});
