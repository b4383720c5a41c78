/**
 * markdown-it as a tokenizer: CommonMark with tables and strike-through, without HTML, and with maths as tokens.
 * Nothing here makes markup; `draw.ts` makes nodes from the tokens.
 */
import MarkdownIt, {
  type MarkdownIt as Parser,
  type Env as Known,
  type StateBlock,
  type StateInline,
  type Token
} from 'markdown-it';

import { address } from './links';

export type { Parser, Token };
/** What markdown-it remembers of a document: its link reference definitions. */
export type Env = Known & { references: NonNullable<Known['references']> };

/** Lists and quotes within each other beyond this are shown as text. A list counts twice: itself and its item. */
const DEPTH = 20;
/** A paragraph with more of these than a reader would meet is shown as text: they cost the square of their number. */
const BRACKETS = 400;
const INTERRUPTS = ['paragraph', 'reference', 'blockquote', 'list'];

/** A parser. One is enough for a page: it keeps nothing from one text to the next. */
export function createParser(): Parser {
  const parser = new MarkdownIt({
    html: false,
    linkify: true,
    maxNesting: 100
  });
  parser.validateLink = url => address(url) !== null;
  parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
  parser.linkify.add('ftp:', null).add('//', null);
  const [table] = parser.block.ruler.getRules('');
  parser.block.ruler.at(
    'table',
    (state, start, end, silent) =>
      !beginsOther(state, start) && table(state, start, end, silent),
    { alt: ['paragraph', 'reference'] }
  );
  noteAir(parser);
  parser.block.ruler.before('table', 'too_deep', tooDeep, { alt: [] });
  parser.block.ruler.before('fence', 'math_block', mathBlock, {
    alt: INTERRUPTS
  });
  parser.inline.ruler.before('escape', 'math_inline', mathInline);
  parser.inline.ruler.before('text', 'too_many', tooMany);
  return parser;
}

/** An environment that knows `known` and keeps what is defined anew to itself. */
export function environment(known: Env | null = null): Env {
  return {
    references: Object.create(
      known ? known.references : null
    ) as Env['references']
  };
}

/** Definitions of `later` that `env` does not have yet. The first one of a name counts. */
export function define(env: Env, later: Env): void {
  for (const [name, reference] of Object.entries(later.references)) {
    env.references[name] ??= reference;
  }
}

/** What the token of a list's item says of it: whether no blank line is between its blocks, and whether its last line is one. */
export interface IAir {
  isTight: boolean;
  endsBlank: boolean;
}

/** The air in an item. Only one that is empty, with a blank line behind it, has none noted. */
export function airOf(token: Token): IAir {
  return (token.meta as IAir | null) ?? { isTight: true, endsBlank: true };
}

/** markdown-it marks the paragraphs of a tight list; where there is none, nothing would tell how the list is. */
function noteAir(parser: Parser): void {
  const { block } = parser;
  const tokenize = block.tokenize.bind(block);
  block.tokenize = (state, start, end) => {
    const item =
      state.parentType === 'list'
        ? state.tokens[state.tokens.length - 1]
        : undefined;
    tokenize(state, start, end);
    if (item) {
      item.meta = {
        isTight: state.tight,
        endsBlank: state.line - start > 1 && state.isEmpty(state.line - 1)
      } satisfies IAir;
    }
  };
}

/** What begins with one of these is no head of a table, as GitHub has it; markdown-it alone looks for a table first. */
const OTHERS =
  /^(>|#{1,6}(?:[ \t]|$)|`{3,}[^`]*$|~{3,}|(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$))/;

function beginsOther(state: StateBlock, line: number): boolean {
  return OTHERS.test(lineOf(state, line));
}

function tooDeep(
  state: StateBlock,
  start: number,
  end: number,
  silent: boolean
): boolean {
  if (silent || state.level < DEPTH) {
    return false;
  }
  const token = state.push('plain', '', 0);
  token.content = state.getLines(start, end, state.blkIndent, false);
  token.map = [start, end];
  state.line = end;
  return true;
}

function tooMany(state: StateInline, silent: boolean): boolean {
  if (silent || state.pos > 0 || state.level > 0) {
    return false;
  }
  if (state.src.split(/[[!]/).length <= BRACKETS) {
    return false;
  }
  state.pending += state.src;
  state.pos = state.posMax;
  return true;
}

/**
 * `$$`, `\[` or `\begin{x}` at the start of a line opens a formula, which ends with the line that closes it. An empty
 * line ends it too, for TeX allows none; then it is no formula, and shown as text. So nothing that comes later changes
 * where it ends.
 */
function mathBlock(
  state: StateBlock,
  start: number,
  end: number,
  silent: boolean
): boolean {
  if (state.sCount[start] - state.blkIndent >= 4) {
    return false;
  }
  const first = lineOf(state, start).trim();
  const opening = /^(\$\$|\\\[|\\begin\{([a-z]+\*?)\})/.exec(first);
  if (!opening) {
    return false;
  }
  const open = opening[1];
  if (silent) {
    return open !== '$$' ? first === open : first === '$$'; // what may interrupt a paragraph
  }
  const close = closing(open, opening[2]);
  const isEnvironment = opening[2] !== undefined;
  let content = isEnvironment ? first : first.slice(open.length);
  const at = content.indexOf(close, isEnvironment ? open.length : 0);
  if (at >= 0 && at + close.length < content.length) {
    return false; // more on the line: a paragraph with a formula in it
  }
  let line = start + 1;
  let closed = at >= 0;
  while (!closed && line < end && !state.isEmpty(line)) {
    if (state.sCount[line] < state.blkIndent) {
      break;
    }
    const next = lineOf(state, line).trim();
    content += '\n' + next;
    closed = next.endsWith(close);
    line++;
  }
  const token = state.push('math_block', '', 0);
  token.content =
    closed && !isEnvironment ? content.slice(0, -close.length) : content;
  token.markup = isEnvironment ? '' : open;
  token.info = isEnvironment ? '' : close;
  token.hidden = !closed;
  token.map = [start, line];
  state.line = line;
  return true;
}

function closing(open: string, name: string | undefined): string {
  return open === '$$' ? '$$' : open === '\\[' ? '\\]' : `\\end{${name}}`;
}

function lineOf(state: StateBlock, line: number): string {
  return state.src.slice(
    state.bMarks[line] + state.tShift[line],
    state.eMarks[line]
  );
}

/** `$x$` as pandoc reads it, so that "$5 and $6" is no formula; `$$x$$`, `\(x\)` and `\[x\]`. */
function mathInline(state: StateInline, silent: boolean): boolean {
  const { src, pos, posMax } = state;
  const mark = src.charCodeAt(pos);
  let open: string;
  let close: string;
  if (mark === 0x24 /* $ */) {
    open = close = src.charCodeAt(pos + 1) === 0x24 ? '$$' : '$';
  } else if (mark === 0x5c /* \ */ && '(['.includes(src[pos + 1] || ' ')) {
    open = src.slice(pos, pos + 2);
    close = open === '\\(' ? '\\)' : '\\]';
  } else {
    return false;
  }
  const from = pos + open.length;
  const limit = Math.min(posMax, from + 2000);
  const end = find(src, close, from, limit);
  const content = end < 0 ? '' : src.slice(from, end);
  if (
    !content.trim() ||
    (open === '$' &&
      (/^\s|\s$|\\$/.test(content) || /\d/.test(src[end + 1] ?? '')))
  ) {
    if (open !== '$$' && open !== '$') {
      return false;
    }
    if (!silent) {
      state.pending += open;
    }
    state.pos = from;
    return true;
  }
  if (!silent) {
    const token = state.push('math_inline', '', 0);
    token.content = content;
    token.markup = open;
    token.info = close;
  }
  state.pos = end + close.length;
  return true;
}

/** Where `close` is, not behind a backslash. */
function find(src: string, close: string, from: number, limit: number): number {
  for (let at = from; at + close.length <= limit; at++) {
    if (src.startsWith(close, at)) {
      return at;
    }
    if (src.charCodeAt(at) === 0x5c) {
      at++;
    }
  }
  return -1;
}
