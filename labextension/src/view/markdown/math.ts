/**
 * Formulas. They are text until their piece is finished; then JupyterLab's typesetter may draw them, a few at a time
 * and not more than a budget. What it draws is looked over, and what is not its own kind of node goes back to text.
 */
import { settings } from '../../settings';
import type { IPart, IPartNode } from './dom';
import { Later } from './later';
import { services } from './services';

/** For one answer. */
const FORMULAS = 600;
const CHARACTERS = 60_000;
/** For one formula. */
const LONGEST = 1500;
const DEEPEST = 24;
const CELLS = 400;

/** What makes links, styles, names or loads code; what stays behind for the formulas that follow; what loops. */
const REFUSED = new RegExp(
  '\\\\(' +
    [
      'href|url|require|unicode|html\\w*|class|cssId|style|data|mmlToken|bbox|includegraphics|img',
      'action|toggle|math[tT]ip|text[tT]ip|tooltip|texttip|enclose|label|(eq)?ref|nonumber\\w+',
      'def|[egx]def|let|futurelet|global|(re)?newcommand|providecommand|(re)?newenvironment|csname|input|include',
      'Declare\\w*|New\\w*|define\\w*|(re)?newtagform|usetagform|special|write|catcode|loop|repeat|everymath'
    ].join('|') +
    ')(?![a-zA-Z])'
);
/** A length: nothing larger than the page. */
const LENGTH =
  /(\d+(?:\.\d*)?|\.\d+)\s*(em|ex|pt|px|cm|mm|in|mu|pc|bp|dd|cc|sp)\b/g;

class Formula implements IPartNode {
  readonly node = document.createElement('span');
  tex = '';
  private text = document.createTextNode('');

  constructor() {
    this.node.appendChild(this.text);
  }

  set(open: string, tex: string, close: string, display: boolean): void {
    const source = open + tex + close;
    this.tex = source;
    const name = display ? 'ts-Math ts-display' : 'ts-Math';
    if (this.node.className !== name) {
      this.node.className = name;
    }
    if (this.node.firstChild !== this.text) {
      this.node.replaceChildren(this.text);
    }
    if (this.text.data !== source) {
      this.text.data = source;
    }
  }
}

/** A formula with its delimiters, to be typeset when its piece is finished. */
export function mathPart(
  open: string,
  tex: string,
  close: string,
  display: boolean
): IPart {
  return {
    part: 'math',
    make: () => new Formula(),
    set: part => (part as Formula).set(open, tex, close, display)
  };
}

/** Whether the typesetter may have this. */
export function isPlainMath(source: string): boolean {
  if (source.length > LONGEST || REFUSED.test(source)) {
    return false;
  }
  if (source.split(/&|\\\\/).length > CELLS) {
    return false;
  }
  let depth = 0;
  for (const character of source) {
    depth += character === '{' ? 1 : character === '}' ? -1 : 0;
    if (depth > DEEPEST) {
      return false;
    }
  }
  for (const [, size] of source.matchAll(LENGTH)) {
    if (Number(size) > 40) {
      return false;
    }
  }
  return true;
}

/** Typesets the formulas of one answer, in the order they come. */
export class Typesetting {
  private left = FORMULAS;
  private characters = CHARACTERS;
  private later = new Later();
  private seen = new WeakSet<Node>();

  /** `drawn` makes a change to the page and keeps the reader's place. */
  constructor(private drawn: (change: () => void) => void) {}

  /** Takes the formulas in a finished node. */
  take(node: Element): void {
    if (!services.typesetter || !settings.maths) {
      return;
    }
    const found = node.matches('.ts-Math')
      ? [node]
      : [...node.querySelectorAll('.ts-Math')];
    for (const formula of found) {
      this.one(formula as HTMLElement);
    }
  }

  dispose(): void {
    this.later.clear();
  }

  private one(node: HTMLElement): void {
    const source = node.textContent ?? '';
    if (
      this.seen.has(node) ||
      this.left <= 0 ||
      source.length > this.characters ||
      !isPlainMath(source)
    ) {
      return;
    }
    this.seen.add(node);
    this.left--;
    this.characters -= source.length;
    this.later.add(async () => {
      // drawn beside the page, looked over, and only then shown
      const made = document.createElement('span');
      made.textContent = forTypesetter(source);
      const aside = document.createElement('div');
      aside.className = 'ts-Aside';
      aside.appendChild(made);
      node.appendChild(aside);
      try {
        await services.typesetter?.typeset(made);
      } finally {
        aside.remove();
      }
      if (made.querySelector('mjx-container') && isInert(made)) {
        this.drawn(() => {
          node.replaceChildren(...made.childNodes);
          node.classList.add('ts-typeset');
        });
      }
    });
  }
}

/** The delimiters that JupyterLab's typesetter knows; an environment is one of its own. */
function forTypesetter(source: string): string {
  const inner = /^\$([^$][^]*)\$$/.exec(source)?.[1];
  return inner !== undefined ? `\\(${inner}\\)` : source;
}

const ATTRIBUTES =
  /^(class|style|role|aria-[a-z]+|data-mjx-[a-z-]+|jax|display|overflow|tabindex|width|height|size|unselectable|variant|space|align|justify|stretchy|xmlns|math\w+|accent\w*|column\w*|row\w*|linethickness|lspace|rspace|fence|separator|movablelimits|minsize|maxsize|symmetric|form|noalign|location|limits|texclass|displaystyle|scriptlevel|notation|side|framespacing|frame|depth|voffset|open|close|bevelled|numalign|denomalign|id|c|s|prescripts|equalrows|equalcolumns|dir|largeop|subscriptshift|superscriptshift|stretch\w*|lines|breakable|containers?|type|atop|delims)$/i;

/** Whether a typeset formula is made of the typesetter's own nodes only. */
export function isInert(root: Element): boolean {
  for (const node of root.querySelectorAll('*')) {
    const name = node.localName;
    const isOwn =
      name.startsWith('mjx-') || /^(math|m[a-z]+|semantics|span)$/.test(name);
    if (!isOwn || name === 'maction' || name === 'mglyph' || name === 'meta') {
      return false;
    }
    for (const { name: attribute, value } of node.attributes) {
      if (!ATTRIBUTES.test(attribute) || /url\(|:\/\/|script:/i.test(value)) {
        if (attribute !== 'xmlns') {
          return false;
        }
      }
    }
  }
  return true;
}
