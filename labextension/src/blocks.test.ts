// @vitest-environment jsdom
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { LONGEST, Piece, Splitter } from './blocks';
import { MarkdownBody } from './view/markdown/body';
import { patch } from './view/markdown/dom';
import { budget, draw } from './view/markdown/draw';
import { createParser } from './view/markdown/parser';

const parser = createParser();

/** Lines that begin, go on with, interrupt and end every kind of block. */
const LINES = [
  ...[
    '',
    '',
    '',
    '  ',
    'words',
    'more words',
    '    indented',
    '\tindented',
    '  two',
    '   three'
  ],
  ...[
    '# One',
    '## Two #',
    '===',
    '---',
    '- - -',
    '***',
    '_ _ _',
    '----',
    '--',
    '='
  ],
  ...[
    '- a',
    '- b',
    '* c',
    '+ d',
    '-',
    '  - in',
    '    - deeper',
    '      - deepest',
    '- [ ] to do',
    '- [x] done'
  ],
  ...[
    '1. one',
    '2. two',
    '10) ten',
    '   1. in',
    '2) other',
    '  para',
    '   - x',
    '1.',
    '-     code',
    '- ```',
    '- > q'
  ],
  ...[
    '> quote',
    '> - list',
    '>',
    '> ```',
    '> # head',
    '>> two',
    'lazy',
    '> | a | b |',
    '> |---|---|'
  ],
  ...[
    '```',
    '```js',
    '~~~',
    '~~~~ info',
    '````',
    '  ```',
    '`````',
    '    ```',
    '```js `x`'
  ],
  ...[
    '| a | b |',
    '|---|:-:|',
    '| 1 | 2 | 3 |',
    'a | b',
    '--|--',
    '|',
    '| `x|y` | \\| |',
    '- a | b',
    '-\ta | b',
    '# a | b',
    '```|',
    '|--|'
  ],
  ...[
    '[r]: http://a.example',
    "[r]: http://b.example 'title'",
    '[s]: http://c.example',
    "'a title",
    "over lines'",
    '[r] and [s]',
    '[r][s] ![r]'
  ],
  ...[
    '$$',
    'x = 1',
    '$$x$$',
    '$$x',
    'y$$',
    '\\[',
    '\\]',
    '\\begin{align}',
    '\\end{align}',
    'a $x$ b',
    '\\(y\\)',
    '\\[z\\] w'
  ],
  ...[
    '<div>',
    '</div>',
    '<!-- c',
    '-->',
    '**bold**',
    '*a',
    'b*',
    '`co',
    'de`',
    '[l](http://l.example)',
    'hard  ',
    'hard\\',
    '~~s~~'
  ],
  ...[
    'http://auto.example/x',
    '<http://angle.example>',
    '![i](https://i.example/x.png)',
    '&lt;&#x41;',
    '\\*esc\\*',
    '😀 é'
  ]
];

const document_ = fc
  .array(fc.constantFrom(...LINES), { maxLength: 14 })
  .chain(lines =>
    fc.tuple(
      fc.constant(lines),
      fc.array(fc.constantFrom('\n', '\n', '\n', '\n', '\r\n', '\n\n'), {
        minLength: lines.length,
        maxLength: lines.length
      }),
      fc.boolean()
    )
  )
  .map(([lines, ends, isOpen]) =>
    lines
      .map((line, at) =>
        isOpen && at === lines.length - 1 ? line : line + ends[at]
      )
      .join('')
  );

function chunked(text: string, cuts: number[]): string[] {
  const places = [...new Set(cuts.map(cut => cut % (text.length + 1)))].sort(
    (a, b) => a - b
  );
  return [0, ...places].map((from, at) => text.slice(from, places[at]));
}

function drawn(chunks: string[], done = true): HTMLElement {
  const box = document.createElement('div');
  const body = new MarkdownBody(box);
  chunks.forEach(chunk => body.append(chunk, false));
  body.append('', done);
  return box;
}

/** The nodes as text, without the groups, which are only for the layout. */
function shape(node: Node): string {
  if (node instanceof Text) {
    return JSON.stringify(node.data);
  }
  const element = node as Element;
  const inside = joined([...element.childNodes]);
  if (element.matches('.ts-Block, .ts-Lines')) {
    return inside;
  }
  if (element.matches('tbody:empty')) {
    return '';
  }
  // the air in a list shows only between paragraphs
  const bare =
    element.matches('ul, ol') && !element.querySelector(':scope > li > p');
  const attributes = [...element.attributes]
    .filter(({ name }) => !(bare && name === 'class'))
    .map(({ name, value }) => ` ${name}=${value}`)
    .join('');
  return `<${element.localName}${attributes}>${inside}</>`;
}

function joined(nodes: Node[]): string {
  return nodes.map(shape).join('').replace(/""/g, '');
}

/** Markdown-it over the whole text, with nothing split. */
function atOnce(text: string): HTMLElement {
  const box = document.createElement('div');
  patch(box, draw(parser.parse(text, {}), budget()));
  return box;
}

function same(a: HTMLElement, b: HTMLElement): void {
  expect(joined([...a.childNodes])).toBe(joined([...b.childNodes]));
}

/** Texts a test looks at; some hundred thousands found nothing more. */
const RUNS = 1500;

/** On a machine that has much to do; a test that ends by the clock would not tell its seed. */
const PATIENCE = { timeout: 120_000 };

describe('any text in any chunks', PATIENCE, () => {
  it('looks the same as in one piece', () => {
    fc.assert(
      fc.property(
        document_,
        fc.array(fc.nat(400), { maxLength: 12 }),
        (text, cuts) => {
          same(drawn(chunked(text, cuts)), drawn([text]));
        }
      ),
      { numRuns: RUNS }
    );
  });

  it('looks the same character by character', () => {
    fc.assert(
      fc.property(document_, text => {
        same(drawn([...text]), drawn([text]));
      }),
      { numRuns: RUNS / 5 }
    );
  });

  it('looks as the parser alone would draw it, but for definitions that come later', () => {
    fc.assert(
      fc.property(document_, text => {
        fc.pre(!/^\[[rs]\]:/m.test(text.replace(/^[> \-*+\d.)]+/gm, '')));
        same(drawn([...text]), atOnce(text));
      }),
      { numRuns: RUNS / 5 }
    );
  });

  it('gives out every piece once, and together they are the text', () => {
    fc.assert(
      fc.property(
        document_,
        fc.array(fc.nat(400), { maxLength: 12 }),
        (text, cuts) => {
          const splitter = new Splitter(parser);
          const pieces: Piece[] = [];
          chunked(text, cuts).forEach(chunk =>
            pieces.push(...splitter.push(chunk))
          );
          const again = new Splitter(parser);
          const whole = again.push(text);
          expect(merged(pieces)).toEqual(merged(whole));
          expect(splitter.tail).toEqual(again.tail);
        }
      ),
      { numRuns: RUNS }
    );
  });
});

/** Neighbours that only grow what is open are one. */
function merged(pieces: Piece[]): Piece[] {
  const result: Piece[] = [];
  for (const piece of pieces) {
    const last = result[result.length - 1];
    const grows = ['lines', 'rows', 'plain'].includes(piece.kind);
    if (
      grows &&
      last?.kind === piece.kind &&
      'text' in piece &&
      'text' in last
    ) {
      last.text += piece.text;
    } else {
      result.push({ ...piece });
    }
  }
  return result;
}

it.each([
  ['a table and a last line that is no row', '--|--\n--|--\n- [ ] to do'],
  ['a table and a heading', '| a |\n|---|\n| 1 |\n# The end'],
  ['a table and an open fence', '| a |\n|---|\n| 1 |\n```py'],
  ['air between items of code', '   - x\n-     code\n\n-     code\n'],
  ['air within an item', '- b\n- > q\n\n    ```\n2) other\n\n'],
  ['air before an empty item', '- a\n- ```\n\n-\n'],
  ['air between headings', '- # a\n\n- # b\n- c\n'],
  ['an item that looks like a table', '- > \n-\ta | b\n--|--\n---\n\n'],
  ['a heading that looks like a table', '# a | b\n--|--\n'],
  ['a fence that looks like a table', '```|\n|--|\n']
])('is drawn as the parser alone would: %s', (_, text) => {
  same(drawn([text]), atOnce(text));
  same(drawn([...text]), atOnce(text));
});

it('a line behind a table is there before it ends', () => {
  const box = drawn(['| a |\n|---|\n| 1 |\n# The e'], false);
  expect(box.querySelector('.ts-Heading')?.textContent).toBe('The e');
  expect(box.querySelectorAll('tbody td')).toHaveLength(1);
});

describe('what is longer than a block may be', () => {
  it.each([
    ['a line without end', 'word '.repeat(20_000)],
    ['a word without end', 'x'.repeat(100_000)],
    ['a quote', '> quoted words\n'.repeat(5000)],
    ['an item', '- item\n' + '  goes on\n'.repeat(5000) + '\nafter\n\nend\n'],
    [
      'a fence within an item',
      '- item\n  ```\n' + '  code\n'.repeat(5000) + '  ```\n\nafter\n'
    ],
    ['a fence that names no end', '```' + 'y'.repeat(40_000)]
  ])(
    'goes on as plain text, the same in any chunks, with nothing lost: %s',
    (_, text) => {
      const whole = drawn([text]);
      for (const size of [997, 5000, LONGEST]) {
        const chunks = [];
        for (let at = 0; at < text.length; at += size) {
          chunks.push(text.slice(at, at + size));
        }
        same(drawn(chunks), whole);
      }
      const count = (of: string) => of.replace(/[\s>`-]/g, '').length;
      whole.querySelectorAll('button').forEach(node => node.remove());
      expect(count(whole.textContent ?? '')).toBe(count(text));
    }
  );
});

it.each([
  ['list', '1. item\n'.repeat(250) + '\nAfter'],
  ['list with air', '- item\n'.repeat(220) + '\n- item\n'.repeat(10)],
  ['table', '| a |\n|---|\n' + '| b |\n'.repeat(200) + '\nAfter']
])('a long %s goes on in another, the same in any chunks', (_, text) => {
  const whole = drawn([text]);
  for (const size of [1, 7, 333]) {
    const chunks = text.match(new RegExp(`[^]{1,${size}}`, 'g'))!;
    same(drawn(chunks), whole);
  }
  const [first, ...more] = whole.querySelectorAll('ol, ul, table');
  expect(more.length).toBeGreaterThan(0);
  expect(first.querySelectorAll('li, tbody tr')).toHaveLength(100);
  expect(more.map(node => node.getAttribute('start') ?? '')[0]).toBe(
    first.localName === 'ol' ? '101' : ''
  );
});

describe('the tail', () => {
  it('stays as long as one block, whatever has come', () => {
    const splitter = new Splitter(parser);
    const text = LINES.join('\n').repeat(40);
    let longest = 0;
    for (let at = 0; at < text.length; at += 100) {
      splitter.push(text.slice(at, at + 100));
      longest = Math.max(longest, splitter.tail.text.length);
    }
    expect(longest).toBeLessThan(3 * LONGEST);
  });

  it('of a thousand items, rows or lines of code is the last of them', () => {
    for (const line of ['- item\n', '| a | b |\n', 'code\n']) {
      const splitter = new Splitter(parser);
      const head = line.startsWith('|')
        ? line + '|---|---|\n'
        : line === 'code\n'
          ? '```\n'
          : '';
      splitter.push(head);
      for (let n = 0; n < 1000; n++) {
        splitter.push(line);
        expect(splitter.tail.text.length).toBeLessThan(4 * line.length);
      }
    }
  });
});
