// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Growth } from '../state';
import { Answer, split } from './answer';
import { MarkdownBody } from './markdown/body';
import { CodeBody } from './markdown/codebody';
import { Sliced } from './sliced';
import type { IBody } from './text';

const BLOCK = 2000;
const LONGEST = 4 * BLOCK;

/** Numbers in [0, 1) that are the same in every run (mulberry32). */
function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const PIECES = [
  'word ',
  '\n',
  '\n\n',
  '\r\n',
  ' ',
  '😀',
  'ÅÄÖ',
  '<b>&amp;</b>',
  '</script><script>alert(1)</script>',
  '\u202eabc\u202c',
  'x'.repeat(BLOCK - 1),
  'y'.repeat(LONGEST + 1),
  'a line\n'.repeat(700)
];

function pieces(seed: number, count: number): string[] {
  const next = random(seed);
  return Array.from(
    { length: count },
    () => PIECES[Math.floor(next() * PIECES.length)]
  );
}

function blocks(answer: Answer): string[] {
  return [...answer.node.children].map(block => block.textContent ?? '');
}

function lines(count: number): string {
  return Array.from({ length: count }, (_, i) => `line ${i}\n`).join('');
}

describe('the text shown', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'is the text that came, whatever its pieces (seed %d)',
    seed => {
      const answer = new Answer('text');
      let text = '';
      for (const piece of pieces(seed, 60)) {
        text += piece;
        answer.update(text);
        expect(answer.node.textContent === text).toBe(true);
      }
      expect(answer.node.children.length).toBeGreaterThan(5);
    }
  );

  it('comes in blocks that are sealed at a line end or at their longest', () => {
    const answer = new Answer('text');
    let text = '';
    for (const piece of pieces(42, 120)) {
      text += piece;
      answer.update(text);
    }
    const sealed = blocks(answer).slice(0, -1);
    expect(sealed.length).toBeGreaterThan(10);
    for (const block of sealed) {
      expect(block.length).toBeLessThanOrEqual(LONGEST);
      expect(block.length).toBeGreaterThanOrEqual(BLOCK);
      expect(block.endsWith('\n') || block.length >= LONGEST - 1).toBe(true);
    }
  });

  it('stays text, whatever it looks like', () => {
    const answer = new Answer('text');
    const text = '<img src=x onerror="window.hit = 1"> <b>bold</b> &lt;';
    answer.update(text.slice(0, 9));
    answer.update(text);
    expect(answer.node.textContent).toBe(text);
    expect(answer.node.querySelector('img, b, script')).toBeNull();
    const block = answer.node.firstElementChild!;
    expect([...block.childNodes].map(node => node.nodeType)).toEqual([
      Node.TEXT_NODE
    ]);
  });

  it('is not touched when nothing came', () => {
    const answer = new Answer('text');
    answer.update('the same');
    const seen = observe(answer.node);
    answer.update('the same');
    expect(seen.takeRecords()).toEqual([]);
  });
});

/** Everything that happens to a node and below; takeRecords() is synchronous. */
function observe(...nodes: Node[]): MutationObserver {
  const observer = new MutationObserver(() => undefined);
  for (const node of nodes) {
    observer.observe(node, {
      attributes: true,
      characterData: true,
      childList: true,
      subtree: true
    });
  }
  return observer;
}

describe('a sealed block', () => {
  it('is the same node, untouched, after more text', () => {
    const answer = new Answer('text');
    const text = lines(2000);
    answer.update(text.slice(0, 9000));
    const before = [...answer.node.children].slice(-3, -1);
    const seen = observe(...before);
    for (let end = 9000; end <= text.length; end += 137) {
      answer.update(text.slice(0, end));
    }
    expect(answer.node.children.length).toBeGreaterThan(before.length + 2);
    const now = [...answer.node.children];
    const at = now.indexOf(before[0]);
    expect(now.slice(at, at + 2)).toEqual(before);
    // it is only said, once, that it is far from the end
    const touched = seen.takeRecords();
    expect(touched.every(({ type }) => type === 'attributes')).toBe(true);
    expect(touched.map(({ target }) => target)).toEqual(before);
    expect(before.every(({ className }) => /\bts-Far$/.test(className))).toBe(
      true
    );
  });

  it('leaves one open block, which grows in place', () => {
    const answer = new Answer('text');
    answer.update('one');
    const block = answer.node.firstElementChild!;
    const text = block.firstChild!;
    answer.update('one, two');
    expect(answer.node.firstElementChild).toBe(block);
    expect(block.firstChild).toBe(text);
    expect(text.textContent).toBe('one, two');
  });

  it('is made of one long line too', () => {
    const answer = new Answer('text');
    const line = 'x'.repeat(5 * LONGEST);
    for (let end = 0; end <= line.length; end += 777) {
      answer.update(line.slice(0, end));
    }
    answer.update(line);
    expect(blocks(answer).map(block => block.length)).toEqual(
      Array<number>(5).fill(LONGEST)
    );
  });

  it('ends with the line that was open when it got long', () => {
    const answer = new Answer('text');
    answer.update('x'.repeat(BLOCK + 50));
    answer.update('x'.repeat(BLOCK + 50) + 'y\nnext');
    expect(blocks(answer)).toEqual(['x'.repeat(BLOCK + 50) + 'y\n', 'next']);
  });

  it('never ends within a character', () => {
    const answer = new Answer('text');
    answer.update('a' + '😀'.repeat(LONGEST));
    expect(answer.node.children.length).toBeGreaterThan(1);
    for (const block of blocks(answer)) {
      expect(block).not.toMatch(/[\ud800-\udbff]$/);
    }
  });
});

describe('text that does not go on from what is shown', () => {
  it.each([
    ['shorter', 'one two', 'one'],
    ['empty', 'one two', ''],
    ['as long', 'one two', 'two one'],
    ['longer', 'one two', 'two three four']
  ])('is drawn anew when it is %s', (_, first, second) => {
    const answer = new Answer('text');
    answer.update(first);
    answer.update(second);
    expect(answer.node.textContent).toBe(second);
  });

  it('is drawn anew when it is the beginning of what is shown', () => {
    const answer = new Answer('text');
    answer.update(lines(2000));
    answer.update(lines(20));
    expect(blocks(answer)).toEqual([lines(20)]);
  });

  it('is drawn anew over many blocks, and grows from there', () => {
    const answer = new Answer('text');
    answer.update(lines(2000));
    answer.update('instead');
    answer.update('instead, this');
    expect(blocks(answer)).toEqual(['instead, this']);
  });

  it.each([
    ['as long', '-'],
    ['longer', '- and more']
  ])('is drawn anew when it differs late and is %s', (_, end) => {
    const answer = new Answer('text');
    const beginning = 'the same beginning '.repeat(10);
    answer.update(beginning + '+');
    answer.update(beginning + end);
    expect(answer.node.textContent).toBe(beginning + end);
  });
});

describe('a split', () => {
  it('is behind the first line end that leaves the block full', () => {
    expect(split('ab\ncd\nef', 4)).toEqual(['ab\ncd\n', 'ef']);
  });

  it('takes all where there is room', () => {
    expect(split('short', BLOCK)).toEqual(['short', '']);
  });

  it.each([BLOCK, 1, 0, -BLOCK, -3 * BLOCK, -9 * BLOCK])(
    'always gets on, and loses nothing, with room for %d',
    room => {
      const text = 'z'.repeat(3 * LONGEST);
      const [now, later] = split(text, room);
      expect(now.length).toBeGreaterThan(0);
      expect(later.length).toBeGreaterThan(0);
      expect(now + later === text).toBe(true);
    }
  );
});

describe('a text of a million characters', () => {
  const LONG = pieces(7, 900).join('');
  const frame = (): Promise<unknown> => new Promise(requestAnimationFrame);

  async function settled(answer: Answer): Promise<number> {
    for (let frames = 0; ; frames++) {
      const before = answer.node.textContent?.length;
      await frame();
      if (answer.node.textContent?.length === before) {
        return frames;
      }
    }
  }

  it('comes in slices, one a frame, and what is said meanwhile behind them', async () => {
    const answer = new Answer('text');
    answer.update(LONG, false);
    expect(answer.node.textContent?.length).toBeLessThan(100_000);
    answer.update(LONG + 'more', false);
    answer.update(LONG + 'more 😀', true);
    expect(await settled(answer)).toBeGreaterThan(10);
    expect(answer.node.textContent === LONG + 'more 😀').toBe(true);
  });

  it('is gone when another takes its place', async () => {
    const answer = new Answer('text');
    answer.update(LONG, true);
    answer.update('another', true);
    await settled(answer);
    expect(answer.node.textContent).toBe('another');
    answer.update('😀'.repeat(200_000), true);
    await settled(answer);
    expect(answer.node.textContent === '😀'.repeat(200_000)).toBe(true);
    answer.update(LONG, true);
    answer.dispose();
    const length = answer.node.textContent?.length;
    await settled(answer);
    expect(answer.node.textContent?.length).toBe(length);
  });

  it('is drawn as Markdown like the same in one piece', async () => {
    const text = lines(400) + '\n- item\n\n```js\nconst a = 1;\n```\n\n';
    const [sliced, grown] = [new Answer(), new Answer()];
    sliced.update(text.repeat(60), true);
    let known = '';
    for (let at = 0; at < 60; at++) {
      known += text;
      grown.update(known, at === 59);
    }
    await settled(sliced);
    expect(sliced.node.textContent === grown.node.textContent).toBe(true);
    expect(sliced.node.querySelectorAll('.ts-Code')).toHaveLength(60);
  });
});

describe('blanks without end', () => {
  // what costs the square of their number would take minutes here, on any machine
  it('cost a block of code no more than letters', () => {
    const node = document.createElement('div');
    const body = new CodeBody(node);
    body.append('```\n', false);
    body.append('\n'.repeat(400_000) + 'x', false);
    body.append('\n' + ' '.repeat(400_000) + 'x', false);
    body.append('\n```\n\n', true);
    const shown = node.querySelector('code')!.textContent!;
    expect(shown.length).toBe(800_004);
    expect(shown.endsWith(' x\n')).toBe(true);
  });

  it('cost Markdown no more than letters', () => {
    const node = document.createElement('div');
    const body = new MarkdownBody(node);
    body.append('a\n' + ' '.repeat(15_000) + 'x', false);
    for (let more = 0; more < 600; more++) {
      body.append('x', false);
    }
    expect(node.textContent!.endsWith('x'.repeat(601))).toBe(true);
  });
});

describe('a slice', () => {
  it('is as long as the page takes in its stride, and only one is drawn in a frame', async () => {
    const clock = vi.spyOn(performance, 'now');
    let now = 0;
    clock.mockImplementation(() => now);
    for (const perMs of [100, 1000, 10_000]) {
      const told: [number, boolean][] = [];
      const slow: IBody = {
        append: (more, done) => {
          now += more.length / perMs;
          told.push([more.length, done]);
        },
        dispose: () => undefined
      };
      const sliced = new Sliced(slow, change => change());
      sliced.append('x'.repeat(300_000), false);
      for (
        let frame = 0;
        told.reduce((sum, [length]) => sum + length, 0) < 400_000;
        frame++
      ) {
        const before = told.length;
        await new Promise(requestAnimationFrame);
        sliced.append('y'.repeat(frame < 10 ? 10_000 : 0), frame > 9);
        expect(told.length - before).toBeLessThanOrEqual(1);
      }
      await new Promise(requestAnimationFrame);
      const full = told.slice(3, -1).map(([length]) => length);
      const fitting = Math.min(60_000, Math.max(8000, 24 * perMs));
      expect(Math.max(...full)).toBe(fitting);
      const end = told.findIndex(([, done]) => done);
      expect(end).toBeGreaterThan(0);
      expect(told.slice(end + 1).every(([length]) => !length)).toBe(true);
    }
    clock.mockRestore();
  });
});

describe('the box', () => {
  const HEIGHT = 100;

  /** An answer with a layout: every character is a pixel high. */
  function box(): Answer {
    const answer = new Answer('text');
    let top = 0;
    const height = () => answer.node.textContent?.length ?? 0;
    Object.defineProperties(answer.node, {
      clientHeight: { get: () => (isHidden ? 0 : HEIGHT) },
      scrollHeight: {
        get: () => (isHidden ? 0 : Math.max(HEIGHT, height()))
      },
      scrollTop: {
        get: () => (isHidden ? 0 : top),
        set: (value: number) => {
          if (!isHidden) {
            top = Math.max(0, Math.min(value, height() - HEIGHT));
          }
        }
      }
    });
    return answer;
  }

  /** The tab of all boxes: hidden, they have no layout; shown again, the page tells those that watch their size. */
  let isHidden = false;
  let resized: (() => void)[] = [];
  const hide = (hidden: boolean): void => {
    isHidden = hidden;
    resized.forEach(tell => tell());
  };

  beforeEach(() => {
    isHidden = false;
    resized = [];
    vi.stubGlobal(
      'ResizeObserver',
      class {
        constructor(private tell: () => void) {}
        observe(): void {
          resized.push(this.tell);
        }
        disconnect(): void {
          resized = resized.filter(tell => tell !== this.tell);
        }
      }
    );
  });

  afterEach(() => {
    vi.unstubAllGlobals();
  });

  it('follows its tail while the reader is at the end', () => {
    const answer = box();
    for (const length of [50, 150, 400, 5000]) {
      answer.update('x'.repeat(length));
      expect(answer.node.scrollTop).toBe(Math.max(0, length - HEIGHT));
    }
  });

  it('stays where the reader went, whatever comes', () => {
    const answer = box();
    answer.update('x'.repeat(1000));
    answer.node.scrollTop = 300;
    expect(answer.isAtBottom()).toBe(false);
    for (const length of [1100, 5000, 20_000]) {
      answer.update('x'.repeat(length));
      expect(answer.node.scrollTop).toBe(300);
    }
  });

  it('does not move when nothing came', () => {
    const answer = box();
    answer.update('x'.repeat(1000));
    answer.node.scrollTop = 890;
    answer.update('x'.repeat(1000));
    expect(answer.node.scrollTop).toBe(890);
  });

  it('follows again when the reader is back at the end', () => {
    const answer = box();
    answer.update('x'.repeat(1000));
    answer.node.scrollTop = 300;
    answer.update('x'.repeat(1100));
    answer.node.scrollTop = 1100;
    expect(answer.isAtBottom()).toBe(true);
    answer.update('x'.repeat(1500));
    expect(answer.node.scrollTop).toBe(1400);
  });

  it('counts less than a line from the end as the end', () => {
    const answer = box();
    answer.update('x'.repeat(1000));
    answer.node.scrollTop = 900 - 23;
    answer.update('x'.repeat(1200));
    expect(answer.node.scrollTop).toBe(1100);
    answer.node.scrollTop = 1100 - 24;
    answer.update('x'.repeat(1400));
    expect(answer.node.scrollTop).toBe(1100 - 24);
  });

  it('in a hidden tab goes on for the reader who was at its end', () => {
    const answer = box();
    answer.update('x'.repeat(1000));
    hide(true);
    answer.update('x'.repeat(3000));
    answer.update('x'.repeat(5000), true);
    hide(false);
    expect(answer.node.scrollTop).toBe(4900);
  });

  it('shown again in the frame in which more comes, it is at its end too', () => {
    const answer = box();
    answer.update('x'.repeat(1000));
    hide(true);
    answer.update('x'.repeat(3000));
    isHidden = false; // the size is told of at the end of the frame
    answer.look();
    answer.update('x'.repeat(3000));
    expect(answer.node.scrollTop).toBe(2900);
    hide(false);
    answer.update('x'.repeat(3100));
    expect(answer.node.scrollTop).toBe(3000);
  });

  it('in a hidden tab stays for the reader who was elsewhere', () => {
    const answer = box();
    answer.update('x'.repeat(1000));
    answer.node.scrollTop = 300;
    answer.node.dispatchEvent(new Event('scroll'));
    hide(true);
    answer.update('x'.repeat(5000));
    hide(false);
    answer.update('x'.repeat(6000), true);
    expect(answer.node.scrollTop).toBe(300);
  });

  it('that comes whole, or was folded away until it was whole, begins at its beginning', () => {
    const whole = box();
    whole.update('x'.repeat(1000), true);
    hide(false);
    expect(whole.node.scrollTop).toBe(0);
    isHidden = true;
    const folded = box();
    folded.update('x'.repeat(1000));
    folded.update('x'.repeat(2000), true);
    hide(false);
    expect(folded.node.scrollTop).toBe(0);
  });

  it('no longer watches its size when it is gone', () => {
    box().dispose();
    expect(resized).toEqual([]);
  });

  it('can be scrolled with the keyboard', () => {
    expect(new Answer('text').node.tabIndex).toBe(0);
  });
});

it('takes what is new from the growth of a text, and all of it when it is another', () => {
  const answer = new Answer('text');
  const growth = new Growth('one ');
  answer.update('one ', false, growth);
  growth.add('two ');
  growth.add('three');
  answer.update('one two three', false, growth);
  expect(answer.node.textContent).toBe('one two three');
  answer.update('one two three', false, growth);
  const other = new Growth('one two three and');
  answer.update('one two three and', false, other);
  expect(answer.node.textContent).toBe('one two three and');
  answer.update('quite another', false, new Growth('quite another'));
  expect(answer.node.textContent).toBe('quite another');
  // a growth that is not that of the text is of no use
  answer.update('quite another end', true, growth);
  expect(answer.node.textContent).toBe('quite another end');
});
