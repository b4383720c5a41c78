// @vitest-environment jsdom
import { describe, expect, it } from 'vitest';

import { StreamView } from './stream';
import { PAGE, WirePanel } from './wire';
import { belongs, readWire, visible } from './wire-data';

type Row = Record<string, unknown>;

function wire(frames: Row[], more: Row = {}): Row {
  return {
    protocol: 'openai-chat',
    size: 1000,
    reads: 3,
    exchanges: [
      {
        attempt: 0,
        method: 'POST',
        url: 'http://127.0.0.1:1/v1/chat/completions',
        request: [['authorization', '***']],
        status: 200,
        response: [
          ['content-type', 'text/event-stream'],
          ['x-evil', '<img src=x onerror=alert(1)>\u001b[31m']
        ],
        sent: 0,
        reads: 3,
        size: 1000
      }
    ],
    frames,
    ...more
  };
}

const FRAMES: Row[] = [
  {
    at: 5,
    size: 14,
    read: 1,
    kind: 'comment',
    text: ': ping\n\n',
    became: [['keep-alive', '']],
    marks: ['keep-alive']
  },
  {
    at: 9,
    gap: 4,
    size: 30,
    read: 2,
    together: 2,
    text: 'data: {"a": "lamp"}\n\n',
    became: [['text', 'lamp']],
    marks: ['coalesced']
  },
  {
    at: 9,
    size: 30,
    read: 2,
    together: 2,
    text: 'data: {"a": "oil"}\n\n',
    became: [['text', 'oil']],
    marks: ['coalesced']
  },
  {
    at: 1900,
    gap: 1891,
    size: 20,
    read: 3,
    reads: 2,
    kind: 'stray',
    text: '<script>alert(1)</script>\u202e',
    marks: ['split', 'gap']
  },
  {
    at: 1901,
    gap: 1,
    size: 20,
    read: 3,
    text: 'data: {"error": 1}',
    became: [['error', 'overloaded']],
    marks: ['unterminated', 'error']
  }
];

function opened(source: unknown): WirePanel {
  const panel = new WirePanel(null);
  document.body.replaceChildren(panel.node);
  panel.update(source);
  panel.node.open = true;
  panel.node.dispatchEvent(new Event('toggle'));
  return panel;
}

function rows(): string[] {
  return [...document.querySelectorAll('.ts-WireItem .ts-WireRaw')].map(
    row => row.textContent ?? ''
  );
}

function press(filter: string): void {
  document
    .querySelector<HTMLButtonElement>(`[data-filter="${filter}"]`)!
    .click();
}

function find(words: string): void {
  const input = document.querySelector<HTMLInputElement>('.ts-WireFind')!;
  input.value = words;
  input.dispatchEvent(new Event('input'));
}

describe('the wire of a settled transcript', () => {
  it('is there only when it was kept', () => {
    const view = new StreamView(null, () => undefined);
    const node = view.node.querySelector<HTMLElement>('.ts-Wire')!;
    view.settle({ text: 'x', about: {} });
    expect(node.hidden).toBe(true);
    view.settle({ text: 'x', about: { wire: wire(FRAMES) } });
    expect(node.hidden).toBe(false);
    expect(node.querySelector('summary')!.textContent).toBe(
      'Wire 3 frames in 3 reads · 1000 B · at most 2 at once'
    );
    view.settle({ text: 'x', about: { wire: 'nonsense' } });
    expect(node.hidden).toBe(true);
    view.dispose();
  });

  it('lists every frame, and narrows to what the reader asks for', () => {
    opened(wire(FRAMES));
    expect(rows()).toHaveLength(5);
    const narrowed: Record<string, string[]> = {};
    for (const filter of [
      'text',
      'comments',
      'strays',
      'coalesced',
      'errors'
    ]) {
      press(filter);
      narrowed[filter] = rows().map(row => row.slice(0, 12));
    }
    expect(narrowed).toEqual({
      text: ['data: {"a": ', 'data: {"a": '],
      comments: [': ping'],
      strays: ['<script>aler'],
      coalesced: ['data: {"a": ', 'data: {"a": '],
      errors: ['data: {"erro']
    });
    press('all');
    find('OIL');
    expect(rows()).toEqual(['data: {"a": "oil"}']);
    expect(document.querySelector('.ts-WireCount')!.textContent).toBe(
      '1 of 5 shown'
    );
    find('no such words');
    expect(document.querySelector('.ts-WireNote')!.textContent).toBe(
      'No frame is like that.'
    );
  });

  it('ties frames of one read together and says their number once', () => {
    opened(wire(FRAMES));
    const items = [...document.querySelectorAll('.ts-WireItem')];
    expect(
      items.map(item => item.classList.contains('ts-mod-together'))
    ).toEqual([false, true, true, false, false]);
    const marks = items.map(item =>
      [...item.querySelectorAll('.ts-WireMark')].map(mark => mark.textContent)
    );
    expect(marks).toEqual([
      ['comment', 'keep-alive'],
      ['2 at once'],
      [],
      ['stray line', 'over 2 reads', 'gap'],
      ['unterminated', 'error']
    ]);
  });

  it('shows what a server sent as text, nothing of it hidden', () => {
    opened(wire(FRAMES));
    const panel = document.querySelector('.ts-Wire')!;
    expect(panel.querySelector('script, img, a')).toBeNull();
    expect(panel.textContent).toContain('<script>alert(1)</script>⟨U+202E⟩');
    expect(panel.textContent).toContain('onerror=alert(1)>⟨U+001B⟩[31m');
    const row = document.querySelectorAll<HTMLDetailsElement>('.ts-WireRow')[0];
    row.open = true;
    row.dispatchEvent(new Event('toggle'));
    expect(row.querySelector('pre')!.textContent).toBe(': ping↵\n↵\n');
    expect(visible('a\u0000\u007f\u200b\ufeffé🙂\t\r')).toBe(
      'a⟨U+0000⟩⟨U+007F⟩⟨U+200B⟩⟨U+FEFF⟩é🙂⇥⟨CR⟩'
    );
  });

  it('draws a long list a page at a time and says what is left out', () => {
    const many = Array.from({ length: PAGE + 50 }, (_, i) => ({
      at: i,
      size: 10,
      read: i,
      text: `data: ${i}`
    }));
    const left_out = { after: PAGE + 10, frames: 9000, size: 1_234_567 };
    opened(wire(many, { left_out, not_kept: 55 }));
    expect(rows()).toHaveLength(PAGE);
    expect(document.querySelectorAll('.ts-WireNote')).toHaveLength(0);
    const more = document.querySelector<HTMLButtonElement>('.ts-WireMore')!;
    expect(more.textContent).toBe('Show 50 more of 50');
    more.click();
    expect(rows()).toHaveLength(PAGE + 50);
    expect(more.hidden).toBe(true);
    expect(document.activeElement?.textContent).toContain(`data: ${PAGE}`);
    const notes = [...document.querySelectorAll('.ts-WireNote')];
    expect(notes[0].textContent).toContain('9000 frames (1235 kB)');
    expect(notes[0].nextElementSibling!.textContent).toContain(
      `data: ${PAGE + 10}`
    );
    expect(notes[1].textContent).toContain('55 B more came');
  });

  it('survives a file that holds anything', () => {
    expect(readWire({ frames: [], exchanges: 7 })).toBeNull();
    const odd = readWire({
      frames: [
        null,
        7,
        { at: 'x', marks: [1, 'gap'], became: [3, ['a']], kind: {} }
      ],
      exchanges: [{ request: [[1, 2]], status: 'x' }],
      left_out: []
    })!;
    expect(odd.frames).toHaveLength(1);
    expect(odd.frames[0]).toMatchObject({
      at: 0,
      reads: 1,
      kind: 'frame',
      marks: ['gap'],
      became: [['a', '']]
    });
    expect(belongs(odd.frames[0], 'errors')).toBe(false);
    expect(odd.exchanges[0]).toMatchObject({
      status: null,
      request: [['', '']]
    });
    opened({
      frames: [{ marks: ['constructor', '__proto__'] }],
      exchanges: [{}]
    });
    expect(rows()).toHaveLength(1);
  });
});
