// @vitest-environment jsdom
import { nullTranslator } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { IRow, rowOf, whenOf } from '../rows';
import { TranscriptList } from './list';
import type { IFilters, ILibrary, IPage } from './requests';
import { Refusal } from './requests';

// Lumino asks for it when it is loaded; jsdom has none
vi.hoisted(() => {
  globalThis.DragEvent = class extends MouseEvent {} as typeof DragEvent;
});

// an icon is a picture, and its package needs a whole browser
vi.mock('@jupyterlab/ui-components', () => {
  const icon = { element: () => document.createElement('span') };
  return {
    LabIcon: class {
      element = icon.element;
    },
    filterIcon: icon,
    refreshIcon: icon
  };
});
const { TranscriptPanel } = await import('./panel');

const MARKUP = '<img src=x onerror="window.hit = 1">';

function id(number: number): string {
  return `01HX${String(number).padStart(22, '0')}`;
}

function row(number: number, rest: Record<string, unknown> = {}): IRow {
  return rowOf({
    id: id(number),
    model: 'acme/large',
    outcome: 'complete',
    prompt: `question ${number}`,
    text: 'answer',
    created_at: '2026-11-01T09:30:00.000+00:00',
    ttft_ms: 120,
    rate: 85,
    rate_unit: 'tokens',
    ...rest
  });
}

/** A server with transcripts of its own; each answer waits until it is let go. */
class Shelf implements ILibrary {
  rows: IRow[] = [];
  asked: (IFilters & { limit: number; cursor?: string })[] = [];
  waiting: (() => void)[] = [];
  held = false;
  refusal: Refusal | null = null;
  removed: string[] = [];

  async list(
    filters: IFilters,
    limit: number,
    cursor?: string
  ): Promise<IPage> {
    this.asked.push({ ...filters, limit, cursor });
    if (this.held) {
      await new Promise<void>(go => this.waiting.push(go));
    }
    if (this.refusal) {
      throw this.refusal;
    }
    const found = this.rows.filter(each => each.prompt.includes(filters.query));
    const from = Number(cursor ?? 0);
    const rows = found.slice(from, from + limit);
    const more = found.length > from + limit;
    return { rows, cursor: more ? String(from + limit) : null };
  }
  async get(): Promise<Record<string, unknown>> {
    return {};
  }
  async cell(): Promise<{ source: string; missing: string[] }> {
    return { source: '', missing: [] };
  }
  async remove(which: string): Promise<void> {
    this.removed.push(which);
    this.rows = this.rows.filter(each => each.id !== which);
  }
  async models(): Promise<string[]> {
    return ['acme/large', MARKUP];
  }
}

const shelf = (count: number): Shelf => {
  const made = new Shelf();
  made.rows = Array.from({ length: count }, (_, n) => row(count - n));
  return made;
};

describe('the list', () => {
  it('drops the answer to a question that is no longer asked', async () => {
    const store = shelf(3);
    const list = new TranscriptList(store);
    store.held = true;
    const first = list.search({ query: 'question 1' });
    const second = list.search({ query: 'question 2' });
    store.waiting[1]();
    await second;
    store.waiting[0]();
    await first;
    expect(list.rows.map(each => each.prompt)).toEqual(['question 2']);
    expect(list.loading).toBe(false);
  });

  it('goes on where it ended, each transcript once', async () => {
    const store = shelf(120);
    const list = new TranscriptList(store);
    await list.refresh();
    expect([list.rows.length, list.hasMore]).toEqual([50, true]);
    store.rows = [row(121), ...store.rows]; // what is new moves the pages
    await Promise.all([list.more(), list.more()]);
    await list.more();
    expect(list.hasMore).toBe(false);
    expect(new Set(list.rows.map(each => each.id)).size).toBe(120);
    expect(list.rows).toHaveLength(120);
  });

  it('keeps what was read when it looks for news, and the choice', async () => {
    const store = shelf(400);
    const list = new TranscriptList(store);
    await list.refresh();
    for (let page = 0; page < 6; page++) {
      await list.more();
    }
    list.select(id(399));
    expect(list.rows).toHaveLength(350);
    store.rows = [row(401), ...store.rows];
    await list.refresh();
    expect(list.rows[0].id).toBe(id(401));
    expect(list.rows).toHaveLength(351);
    expect(list.selected).toBe(id(399));
    expect(list.hasMore).toBe(true);
  });

  it('chooses the neighbour of what was removed', async () => {
    const store = shelf(3);
    const list = new TranscriptList(store);
    await list.refresh();
    list.select(id(1));
    await list.remove(id(1));
    expect(list.selected).toBe(id(2));
    expect(store.removed).toEqual([id(1)]);
  });

  it('keeps its rows when the server goes away, and says so', async () => {
    const store = shelf(3);
    const list = new TranscriptList(store);
    await list.refresh();
    store.refusal = new Refusal('away');
    await list.refresh();
    expect(list.rows).toHaveLength(3);
    expect(list.problem?.message).toBe('away');
  });
});

describe('the panel', () => {
  const trans = nullTranslator.load('tokenstream-magic');
  let store: Shelf;
  let panel: InstanceType<typeof TranscriptPanel>;
  const open = vi.fn<(row: IRow) => void>();
  const remove = vi.fn<(row: IRow) => void>();
  const rerun = vi.fn<(row: IRow) => void>();

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    vi.clearAllMocks();
    store = shelf(2);
  });

  afterEach(() => {
    panel.dispose();
    vi.useRealTimers();
  });

  async function shown(): Promise<void> {
    panel = new TranscriptPanel(
      store,
      trans,
      open,
      [{ label: 'Insert rerun cell', title: '', run: rerun }],
      remove
    );
    Widget.attach(panel, document.body);
    await settled();
  }

  async function settled(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) {
      await Promise.resolve();
    }
  }

  const find = <E extends HTMLElement>(selector: string): E =>
    panel.node.querySelector<E>(selector)!;
  const options = () => [
    ...panel.node.querySelectorAll<HTMLElement>('.ts-Kept')
  ];
  const press = (key: string) =>
    find('[role=listbox]').dispatchEvent(
      new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true })
    );

  it('says outcome, words and figures in words, not in colours', async () => {
    store.rows = [
      row(3, { outcome: 'stopped', stop_cause: 'button' }),
      row(2, { outcome: 'failed', text: '', problem: 'no key', ttft_ms: null }),
      row(1, { prompt: MARKUP, text: MARKUP })
    ];
    await shown();
    const labels = options().map(each => each.getAttribute('aria-label')!);
    expect(labels[0]).toMatch(/^stopped by you, .*Prompt: question 3\. /);
    expect(labels[0]).toContain('first token after 120 ms. 85 tokens/s');
    expect(labels[1]).toMatch(/^failed, .*Answer: no key/);
    expect(labels[1]).not.toContain('first token');
    expect(options()[2].querySelector('.ts-Kept-prompt')!.textContent).toBe(
      MARKUP
    );
    expect(panel.node.querySelector('img')).toBeNull();
  });

  it('asks after the last key, once, and at once for a choice', async () => {
    await shown();
    store.asked = [];
    const search = find<HTMLInputElement>('input[type=search]');
    for (const typed of ['q', 'qu', 'question 1']) {
      search.value = typed;
      search.dispatchEvent(new Event('input'));
      vi.advanceTimersByTime(100);
    }
    expect(store.asked).toHaveLength(0);
    vi.advanceTimersByTime(200);
    await settled();
    expect(store.asked.map(each => each.query)).toEqual(['question 1']);
    expect(options()).toHaveLength(1);
    const outcome = find<HTMLSelectElement>('select[aria-label=Outcome]');
    outcome.value = 'failed';
    outcome.dispatchEvent(new Event('change'));
    expect(store.asked[1]).toMatchObject({
      query: 'question 1',
      outcome: 'failed'
    });
  });

  it('is moved through, opened and emptied with the keys', async () => {
    await shown();
    expect(find('.ts-Library-actions').hidden).toBe(true);
    press('ArrowDown');
    press('ArrowDown');
    press('ArrowDown');
    expect(options()[1].getAttribute('aria-selected')).toBe('true');
    expect(find('[role=listbox]').getAttribute('aria-activedescendant')).toBe(
      options()[1].id
    );
    press('Home');
    press('Enter');
    expect(open.mock.calls.map(([which]) => which.id)).toEqual([id(2)]);
    press('Delete');
    expect(remove.mock.calls.map(([which]) => which.id)).toEqual([id(2)]);
    expect(store.removed).toEqual([]);
    find('.ts-Library-actions button').click();
    expect(rerun.mock.calls.map(([which]) => which.id)).toEqual([id(2)]);
  });

  it('opens what is clicked', async () => {
    await shown();
    options()[1].querySelector<HTMLElement>('.ts-Kept-answer')!.click();
    expect(open.mock.calls.map(([which]) => which.id)).toEqual([id(1)]);
  });

  it('tells a store without transcripts from a search without matches', async () => {
    store.rows = [];
    await shown();
    expect(panel.node.textContent).toContain('No transcripts yet');
    expect(panel.node.textContent).toContain('Every run of a %%stream cell');
    await panel.list.search({ query: 'nothing' });
    expect(panel.node.textContent).toContain('No transcript matches');
    const clear = [...panel.node.querySelectorAll('button')].find(
      each => each.textContent === 'Clear the filters'
    );
    clear!.click();
    await settled();
    expect(panel.node.textContent).toContain('No transcripts yet');
  });

  it('says what to do when the server has no extension of ours', async () => {
    store.refusal = new Refusal('Not Found', '', true);
    await shown();
    expect(panel.node.textContent).toContain(
      'jupyter server extension enable tokenstream_magic.labserver'
    );
    store.refusal = null;
    find('.ts-Library-note button').click();
    await settled();
    expect(options()).toHaveLength(2);
    expect(find('.ts-Library-note').hidden).toBe(true);
  });
});

describe('a row', () => {
  it('takes nothing for granted', () => {
    expect(
      rowOf({ id: '../x', ttft_ms: 'soon', tags: 5, prompt: {}, rate: -1 })
    ).toMatchObject({ id: '', ttft: null, tags: [], prompt: '', rate: null });
    expect(rowOf(null).outcome).toBe('');
    expect(rowOf({ prompt: 'x'.repeat(1e6) }).prompt).toHaveLength(2000);
  });

  it('says when, the nearer the finer', () => {
    const now = new Date('2026-11-20T12:00:00Z');
    const said = (ms: number) => whenOf(new Date(+now - ms), now, 'en');
    expect(said(5_000)).toBe('now');
    expect(said(120_000)).toBe('2 min. ago');
    expect(said(3 * 3_600_000)).toBe('3 hr. ago');
    expect(said(26 * 3_600_000)).toBe('yesterday');
    expect(said(30 * 86_400_000)).toBe('Oct 21');
    expect(said(-60_000)).toBe('now');
  });
});
