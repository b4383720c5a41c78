// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Answer, Format } from '../answer';
import { address, saysWhere } from './links';
import { isInert, isPlainMath } from './math';

/** Node's; its types are not among those of a page. */
declare const process: {
  cpuUsage(since?: { user: number; system: number }): {
    user: number;
    system: number;
  };
};

/** What runs, fetches, navigates or passes for our own page when a text is taken for markup. */
const MARKUP = [
  '<img src=x onerror="window.hit=1">',
  '<script>window.hit=1</script>',
  '<svg/onload=window.hit=1>',
  '<svg><image href=//e.example/x></svg>',
  '<iframe srcdoc="<script>parent.hit=1</script>"></iframe>',
  '<iframe src=javascript:window.hit=1></iframe>',
  '<object data=//e.example></object><embed src=//e.example>',
  '<link rel=stylesheet href=//e.example><style>@import "//e.example"</style>',
  '<meta http-equiv=refresh content="0;url=//e.example"><base href=//e.example>',
  '<form action=//e.example><input autofocus onfocus=window.hit=1></form>',
  '<video poster=//e.example><source src=//e.example></video><audio src=//e.example autoplay>',
  '<picture><source srcset=//e.example><img srcset=//e.example></picture>',
  '<input type=image src=//e.example><body background=//e.example onload=window.hit=1>',
  '<details open ontoggle=window.hit=1><summary>x</summary></details>',
  '<button class="jp-Dialog" data-commandlinker-command="x">Stop</button>',
  '<div class="ts-Stop" style="position:fixed;background:url(//e.example)">Stop</div>',
  '<a href="javascript:window.hit=1">x</a> <a id=body name=cookie>y</a>',
  '<math><mtext><table><mglyph><style><img src=x onerror=window.hit=1>',
  '<noscript><p title="</noscript><img src=x onerror=window.hit=1>">',
  '<template><img src=x onerror=window.hit=1></template><xmp></xmp>',
  '<!--><img src=x onerror=window.hit=1>--> <![CDATA[<b>]]> <?x <b>?> <!DOCTYPE x>',
  '<select><iframe></select><img src=x onerror=window.hit=1>',
  '&lt;img src=x onerror=window.hit=1&gt; &#60;b&#62;',
  '</textarea></title></script></style></p><img src=x onerror=window.hit=1>'
];
const LINKS = [
  '[a](javascript:window.hit=1)',
  '[a](JaVaScRiPt:window.hit=1)',
  '[a](java&#x09;script:window.hit=1)',
  '[a](&#106;avascript:window.hit=1)',
  '[a](javascript&colon;window.hit=1)',
  '[a](<javascript:window.hit=1>)',
  '<javascript:window.hit=1>',
  '[a](data:text/html;base64,PHNjcmlwdD4=)',
  '[a](vbscript:x) [b](file:///etc/passwd) [c](blob:x) [d](ftp://e.example)',
  '[a](//e.example) [b](/lab/tree?token=x) [c](#x) [d](?q) [e](../x)',
  '[a](http://127.0.0.1:8888/?token=x) [b](http://localhost/) [c](http://[::1]/) [d](http://2130706433/)',
  '[a](http://0x7f.1/) [b](http://169.254.169.254/latest) [c](http://10.0.0.1/) [d](http://intranet/)',
  '[https://google.com](https://google.com@e.example)',
  '[https://google.com](https://e.example)',
  '[a](https://xn--ggle-0nda.com) [b](https://gооgle.com)',
  '[a]: javascript:window.hit=1\n\n[a]',
  '[a]: http://e.example "onmouseover=window.hit=1"\n\n[a]',
  '[a](http://e.example "x" onclick=window.hit=1)',
  '[a](http://e.example/"onclick="window.hit=1)',
  `[a](http://e.example/${'x'.repeat(10_000)})`,
  '![x](http://e.example/?q=secret)',
  '![x][y]\n\n[y]: http://e.example/y.png',
  '[![x](http://e.example)](http://f.example)',
  '![x](data:image/svg+xml,<svg onload=window.hit=1>)',
  '![x](javascript:window.hit=1) ![y](//e.example) ![z](attachment:z.png)',
  '| a |\n|---|\n| ![x](http://e.example/t.png) |',
  'http://e.example/?q=secret www.e.example a@b.example mailto:a@b.example'
];
const MATHS = [
  '$\\href{javascript:window.hit=1}{x}$',
  '$$\\url{javascript:window.hit=1}$$',
  '\\(\\class{jp-Dialog}{x}\\) \\[\\cssId{body}{x}\\]',
  '$\\style{background:url(//e.example)}{x}$',
  '$\\require{html}\\data{x}{y}$ $\\unicode[url(//e.example)]{65}$',
  '$\\def\\a{\\a\\a}\\a$ $\\newcommand{\\x}{\\x}\\x$',
  '$\\rule{100000em}{100000em}$',
  '$\\mmlToken{mi}[onclick="window.hit=1"]{x}$',
  '$\\text{<img src=x onerror=window.hit=1>}$',
  '$$\n<script>window.hit=1</script>\n$$',
  '\\begin{align}\n\\href{javascript:1}{x}\n\\end{align}'
];
const CODE = [
  '```mermaid\ngraph TD; A-->B; click A "javascript:window.hit=1"\n```',
  '```html\n<img src=x onerror=window.hit=1>\n```',
  '```" onclick="window.hit=1\nx\n```',
  '```svg\n<svg onload=window.hit=1>\n```',
  '`<img src=x onerror=window.hit=1>` ``<b>`` `<b>',
  '~~~{=html}\n<b>\n~~~',
  '{"a": "<img src=x onerror=window.hit=1>", "__proto__": {"x": 1}}',
  '\u202eabc\u202c \u2066x \u200b\ufeff \u{e0041} \0 \x1b]52;c;x\x07'
];
const NESTED = [
  '- ',
  '> ',
  '# ',
  '1. ',
  '**',
  '| a |\n|-|\n| ',
  '- [ ] ',
  '    '
];
const CORPUS = [
  ...MARKUP,
  ...LINKS,
  ...MATHS,
  ...CODE,
  ...NESTED.flatMap(before => [before + MARKUP[0], before + LINKS[0]])
];

const TAGS =
  'A BLOCKQUOTE BR BUTTON CODE DEL DIV EM HR LI OL P PRE SPAN STRONG TABLE TBODY TD TH THEAD TR UL'.split(
    ' '
  );
const ATTRIBUTES =
  'class href rel referrerpolicy target title role aria-label aria-level scope start type tabindex data-format'.split(
    ' '
  );
const OWN_CLASS = /^(ts-[A-Za-z0-9]+ ?)*$/;

function findings(root: Element): string[] {
  const found: string[] = [];
  for (const node of [root, ...root.querySelectorAll('*')]) {
    if (!TAGS.includes(node.tagName)) {
      found.push(node.tagName);
    }
    for (const { name, value } of node.attributes) {
      if (!ATTRIBUTES.includes(name)) {
        found.push(`${node.tagName} ${name}=${value}`);
      }
      if (name === 'class' && !OWN_CLASS.test(value)) {
        found.push(`class ${value}`);
      }
      if (name === 'href' && !/^(https?:\/\/|mailto:)/.test(value)) {
        found.push(`href ${value}`);
      }
    }
    if (node.tagName === 'A') {
      const link = node as HTMLAnchorElement;
      const isHard =
        link.rel.includes('noopener noreferrer') &&
        link.target === '_blank' &&
        link.getAttribute('referrerpolicy') === 'no-referrer';
      if (
        !isHard ||
        /127|localhost|\[|intranet|169\.254|^10\./.test(link.host)
      ) {
        found.push(`link ${link.href}`);
      }
    }
  }
  return found;
}

beforeEach(() => {
  const refuse = () => {
    throw new Error('the text was taken for markup');
  };
  for (const name of ['innerHTML', 'outerHTML'] as const) {
    vi.spyOn(Element.prototype, name, 'set').mockImplementation(refuse);
  }
  vi.spyOn(Element.prototype, 'insertAdjacentHTML').mockImplementation(refuse);
  vi.spyOn(Range.prototype, 'createContextualFragment').mockImplementation(
    refuse
  );
  vi.spyOn(DOMParser.prototype, 'parseFromString').mockImplementation(refuse);
});

afterEach(() => {
  vi.restoreAllMocks();
  expect((window as { hit?: number }).hit).toBeUndefined();
});

describe.each<Format>(['markdown', 'text', 'json', 'code'])('as %s', format => {
  it.each(CORPUS.map(text => [text]))('nothing but text comes of %j', text => {
    const live = new Answer(format);
    document.body.appendChild(live.node);
    const step = text.length > 2000 ? 499 : 1;
    for (let end = 1; end < text.length; end += step) {
      live.update(text.slice(0, end));
      expect(findings(live.node)).toEqual([]);
    }
    live.update(text, true);
    expect(findings(live.node)).toEqual([]);
    const settled = new Answer(format);
    settled.update(`Before\n\n${text}\n\nAfter`, true);
    expect(findings(settled.node)).toEqual([]);
    live.node.remove();
  });
});

it('shows every character of raw HTML', () => {
  for (const text of MARKUP.slice(0, 22)) {
    const answer = new Answer();
    answer.update(text, true);
    expect(answer.node.textContent).toBe(text);
  }
});

describe('a link', () => {
  it.each([
    ['[words](https://a.example/x)', 'words (a.example)'],
    ['[a.example/x](https://a.example/x)', 'a.example/x'],
    ['<https://a.example/x>', 'https://a.example/x'],
    ['[https://a.example](https://b.example)', 'https://a.example (b.example)'],
    [
      '[https://a.example](https://a.example@b.example)',
      'https://a.example (b.example)'
    ],
    ['[g](https://gооgle.com)', 'g (xn--ggle-55da.com)'],
    ['[mail](mailto:a@b.example)', 'mail (a@b.example)'],
    ['[here](javascript:x)', '[here](javascript:x)'],
    ['[here](http://localhost:8888/)', '[here](http://localhost:8888/)']
  ])('%s reads %s', (source, text) => {
    const answer = new Answer();
    answer.update(source, true);
    expect(answer.node.textContent).toBe(text);
  });

  it('knows an address by what it is, not by how it is written', () => {
    for (const near of [
      'http://0x7f000001',
      'http://127.1',
      'http://017700000001',
      'http://a.local',
      'http://[::ffff:7f00:1]'
    ]) {
      expect(address(near)).toBeNull();
    }
    const to = address('https://a.example/')!;
    expect(saysWhere('a.example', to)).toBe(true);
    expect(saysWhere('b.example', to)).toBe(false);
  });
});

it('an image is a button that names its host, and loads when it is pressed, telling nobody where from', () => {
  const answer = new Answer();
  answer.update('See ![a chart](https://i.example/c.png).', true);
  const button = answer.node.querySelector('button')!;
  expect(button.textContent).toContain('a chart');
  expect(button.textContent).toContain('i.example');
  expect(answer.node.querySelector('img')).toBeNull();
  button.click();
  const image = answer.node.querySelector('img')!;
  expect([image.src, image.alt, image.referrerPolicy]).toEqual([
    'https://i.example/c.png',
    'a chart',
    'no-referrer'
  ]);
});

describe('a formula', () => {
  it.each(
    MATHS.flatMap(text => text.split(/(?<=\$) (?=\$)/)).filter(
      text => !text.includes('<')
    )
  )('is not for the typesetter: %s', text => {
    expect(isPlainMath(text)).toBe(false);
  });

  it.each([
    '$x^2$',
    '$$\\frac{a}{b}$$',
    '\\(\\alpha \\hspace{1em} \\mathbf{v}\\)',
    '\\[\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}\\]'
  ])('is for the typesetter: %s', text => {
    expect(isPlainMath(text)).toBe(true);
  });

  it.each([
    // what MathJax makes of $$\\frac a b$$ and $$\\binom n k$$
    ['type', 'd', true],
    ['atop', 'true', true],
    ['delims', 'true', true],
    ['onclick', 'window.hit = 1', false],
    ['href', 'https://e.example', false]
  ])(
    'with a fraction that has %s="%s" is shown: %s',
    (name, value, isShown) => {
      const made = document.createElement('span');
      const fraction = document.createElement('mjx-frac');
      fraction.setAttribute(name, value);
      made.append(document.createElement('mjx-container'));
      made.firstElementChild!.append(fraction);
      expect(isInert(made)).toBe(isShown);
    }
  );

  it('of other nodes than the typesetter makes is not shown', () => {
    const made = document.createElement('span');
    made.append(document.createElement('mjx-container'));
    expect(isInert(made)).toBe(true);
    made.firstElementChild!.append(document.createElement('a'));
    expect(isInert(made)).toBe(false);
  });
});

describe('what is made to be slow', () => {
  it.each([
    [
      'deep lists',
      Array.from({ length: 1500 }, (_, n) => ' '.repeat(2 * n) + '- x\n').join(
        ''
      )
    ],
    ['deep lists in a line', '- '.repeat(5000) + 'x'],
    ['deep quotes', '>'.repeat(3000) + ' x'],
    ['open brackets', '['.repeat(20_000)],
    ['open images', '!['.repeat(10_000)],
    ['emphasis that does not close', '*a '.repeat(20_000)],
    ['emphasis that closes late', '*a '.repeat(3000) + ' b*'.repeat(3000)],
    [
      'ticks of every length',
      Array.from({ length: 300 }, (_, n) => '`'.repeat(n)).join(' ')
    ],
    [
      'a table of 2000 columns',
      '|a'.repeat(2000) +
        '|\n' +
        '|-'.repeat(2000) +
        '|\n' +
        '|b'.repeat(2000) +
        '|\n'
    ],
    ['formulas', '$x$ '.repeat(5000)],
    ['formulas that do not close', '$x '.repeat(20_000)],
    ['fences that do not close', '```\n~~~\n'.repeat(5000)],
    [
      'definitions',
      Array.from(
        { length: 5000 },
        (_, n) => `[r${n}]: http://e.example/${n}\n`
      ).join('')
    ],
    ['addresses', 'http://e.example/ '.repeat(5000)],
    ['colons', 'http:'.repeat(4000)],
    ['entities', '&amp;'.repeat(20_000)],
    ['combining marks', 'a' + '\u0301'.repeat(200_000)],
    ['nested JSON', '['.repeat(50_000)]
  ])('costs no more than its length: %s', (_, text) => {
    for (const format of ['markdown', 'json'] as const) {
      const live = new Answer(format);
      const took: number[] = [];
      const step = Math.ceil(text.length / 60);
      for (let end = 0; end < text.length; end += step) {
        const before = process.cpuUsage();
        live.update(text.slice(0, end));
        const { user, system } = process.cpuUsage(before);
        took.push((user + system) / 1000);
      }
      live.update(text, true);
      // jsdom takes several times what a browser does, whose own time benchmarks/abuse.py looks at
      const [, slow] = took.sort((a, b) => b - a);
      expect(slow ?? 0).toBeLessThan(1000);
      expect(findings(live.node)).toEqual([]);
      live.dispose();
    }
  });
});
