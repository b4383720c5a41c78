/**
 * Growing Markdown, cut into finished pieces and an open tail. A piece is given out once, when nothing that may follow
 * can change it, and is never looked at again; so all of a text costs as much as its length, however it arrives.
 *
 * Pieces follow from the text alone, not from how it was cut on its way: a test holds this for any text and any
 * chunks. What is given up for it is small and named here:
 * - a link reference definition counts for the piece it stands in and for all that follows, not for what is finished;
 * - a block of more than `LONGEST` characters that is neither a list, a table nor a fenced code block goes on as plain text.
 */
import type { Parser, Token } from './view/markdown/parser';

/** What a finished piece of the text is. `text` is its source, but for `lines`, which is what the code block holds. */
export type Piece =
  /** A block, with the blank lines and definitions behind it. */
  | { kind: 'block'; text: string }
  /** One item of a list; `first` begins a new list. */
  | { kind: 'item'; text: string; first: boolean }
  /** The two lines that begin a table. */
  | { kind: 'table'; text: string }
  /** Rows of the open table. */
  | { kind: 'rows'; text: string }
  /** A fenced code block begins; `info` is what its fence says. */
  | { kind: 'code'; info: string }
  /** Text of the open code block. */
  | { kind: 'lines'; text: string }
  /** Text that is not parsed, for it is beyond what a block may hold. */
  | { kind: 'plain'; text: string }
  /** The end of the open table, code block or plain text. */
  | { kind: 'end' };

/** What follows the last finished piece. */
export interface ITail {
  /** What it goes on with: a block of its own, or the open list, table, code block or plain text. */
  within: 'text' | 'list' | 'table' | 'code' | 'plain';
  text: string;
}

/** A block longer than this goes on as plain text. */
export const LONGEST = 16_000;
/** So much is looked at in one go. */
const WINDOW = 64_000;
/** A line of code that is longer than this is given out before it ends. */
const LONG_LINE = 1000;

interface IFence {
  mark: string;
  length: number;
  indent: number;
}

/** A top-level block, or one item of a top-level list, by its lines. */
interface IBlock {
  kind: 'block' | 'item' | 'table' | 'fence';
  first: boolean;
  start: number;
  end: number;
}

/** Takes a text piece by piece. */
export class Splitter {
  private pending = '';
  private half = '';
  private within: ITail['within'] = 'text';
  private fence: IFence = { mark: '`', length: 3, indent: 0 };
  private head = '';
  private afterBlank = false;
  private atLineStart = true;
  private looked = -1;

  constructor(private parser: Parser) {}

  /** Takes more text, and gives the pieces that it finished. */
  push(more: string): Piece[] {
    this.take(more);
    const pieces: Piece[] = [];
    while (this.step(pieces)) {
      // until only the tail is left
    }
    return pieces;
  }

  /** What is not finished yet. */
  get tail(): ITail {
    return { within: this.within, text: this.pending };
  }

  /** The opening lines of the open table. */
  get tableHead(): string {
    return this.head;
  }

  /** What the open code block would show of `tail.text`; with a fence that may still become one only when `done`. */
  codeTail(done: boolean): string {
    const [line] = this.pending.split('\n', 1);
    const closes = this.atLineStart && this.mayClose(line);
    if (!line.trim() || (closes && (!done || this.closes(line)))) {
      return '';
    }
    return this.atLineStart ? this.unindented(line) : line;
  }

  /** Line ends become `\n`, as the parser sees them; half of one waits for the other half. */
  private take(more: string): void {
    let text = this.half + more;
    this.half = text.endsWith('\r') ? '\r' : '';
    text = text.slice(0, text.length - this.half.length);
    if (text.includes('\r')) {
      text = text.replace(/\r\n?/g, '\n');
    }

    this.pending += text.includes('\0') ? text.replace(/\0/g, '\ufffd') : text;
  }

  private step(pieces: Piece[]): boolean {
    switch (this.within) {
      case 'code':
        return this.code(pieces);
      case 'table':
        return this.table(pieces);
      case 'plain':
        return this.plain(pieces);
      default:
        return this.text(pieces);
    }
  }

  private drop(length: number): void {
    this.pending = this.pending.slice(length);
    this.looked = -1;
  }

  private enter(within: ITail['within']): void {
    this.within = within;
    this.looked = -1;
  }

  private text(pieces: Piece[]): boolean {
    if (this.within === 'text') {
      const blank = /^(?:[ \t]*\n)+/.exec(this.pending);
      if (blank) {
        this.drop(blank[0].length);
      }
    }
    let complete = this.pending.lastIndexOf('\n') + 1;
    if (this.pending.length - complete > LONGEST) {
      complete = this.pending.length; // a line without end: how it begins tells what it is
    }
    if (complete === 0 || complete === this.looked) {
      return false;
    }
    const next = this.pending.indexOf('\n', WINDOW) + 1;
    const size = next > 0 ? Math.min(next, complete) : complete;
    const window = this.pending.slice(0, size);
    const done = this.finished(pieces, window);
    if (done === 0) {
      this.looked = complete;
    }
    return done > 0;
  }

  /** Gives out what is finished in these lines, and returns how many characters that was. */
  private finished(pieces: Piece[], window: string): number {
    const starts = lineStarts(window);
    const blocks = this.blocks(window);
    let done = 0;
    for (let index = 0; index < blocks.length; index++) {
      const block = blocks[index];
      const from = index === 0 ? 0 : starts[block.start];
      if (isOpening(block, starts)) {
        const at = starts[block.start];
        if (at > done) {
          pieces.push({ kind: 'block', text: window.slice(done, at) }); // definitions
        }
        return this.open(pieces, window, starts, block);
      }
      if (starts[block.end] - from > LONGEST) {
        return this.force(pieces, block, from);
      }
      if (!isOver(starts, window, blocks, index)) {
        this.drop(done);
        this.within = block.kind === 'item' && !block.first ? 'list' : 'text';
        return done;
      }
      done = starts[blocks[index + 1].start];
      const text = window.slice(from, done);
      pieces.push(
        block.kind === 'item'
          ? { kind: 'item', text, first: block.first }
          : { kind: 'block', text }
      );
    }
    if (blocks.length === 0 && window.length > LONGEST) {
      const all = { kind: 'block', first: true, start: 0, end: 0 } as const;
      return this.force(pieces, all, 0);
    }
    return done;
  }

  /** Begins a code block or a table, and goes on behind its opening. */
  private open(
    pieces: Piece[],
    window: string,
    starts: number[],
    block: IBlock
  ): number {
    if (block.kind === 'fence') {
      const end = starts[block.start + 1];
      const line = window.slice(starts[block.start], end);
      const [, indent, mark, info] = /^( *)(`{3,}|~{3,})(.*)/.exec(line) ?? [
        '',
        '',
        '```',
        ''
      ];
      this.fence = {
        mark: mark[0],
        length: mark.length,
        indent: indent.length
      };
      this.atLineStart = true;
      pieces.push({ kind: 'code', info: info.trim() });
      this.drop(end);
      this.enter('code');
      return end;
    }
    const end = starts[block.start + 2];
    this.head = window.slice(starts[block.start], end);
    pieces.push({ kind: 'table', text: this.head });
    this.drop(end);
    this.enter('table');
    return end;
  }

  /** The first block is too long: it ends here, and goes on as plain text. */
  private force(pieces: Piece[], block: IBlock, from: number): number {
    this.afterBlank = false;
    if (block.kind === 'fence') {
      this.atLineStart = true;
      this.drop(from); // a fence whose first line has no end is none
      this.enter('plain');
      return Math.max(from, 1);
    }
    const piece = this.pending.slice(from, from + LONGEST);
    const line = piece.lastIndexOf('\n') + 1;
    const space = piece.lastIndexOf(' ') + 1;
    const cut = line || (space > LONGEST - 200 ? space : whole(piece, LONGEST));
    const text = piece.slice(0, cut);
    pieces.push(
      block.kind === 'item'
        ? { kind: 'item', text, first: block.first }
        : { kind: 'block', text }
    );
    this.drop(from + cut);
    this.atLineStart = line > 0;
    this.enter('plain');
    return from + cut;
  }

  /** Plain text ends where a line begins at the margin, behind a blank one. */
  private plain(pieces: Piece[]): boolean {
    const text = this.pending;
    let at = 0;
    while (at < text.length) {
      if (this.atLineStart && this.afterBlank && !/[\s>]/.test(text[at])) {
        break;
      }
      const end = text.indexOf('\n', at) + 1;
      if (end === 0) {
        if (this.atLineStart && !text.slice(at).trim()) {
          break; // it may be a blank line
        }
        this.atLineStart = false;
        this.afterBlank = false;
        at = text.length;
        break;
      }
      this.afterBlank = this.atLineStart && !text.slice(at, end).trim();
      this.atLineStart = true;
      at = end;
    }
    if (at > 0) {
      pieces.push({ kind: 'plain', text: text.slice(0, at) });
      this.drop(at);
    }
    if (
      this.pending &&
      this.atLineStart &&
      this.afterBlank &&
      !/[\s>]/.test(this.pending[0])
    ) {
      pieces.push({ kind: 'end' });
      this.enter('text');
      return true;
    }
    return false;
  }

  private table(pieces: Piece[]): boolean {
    const complete = this.pending.lastIndexOf('\n') + 1;
    const isLong = this.pending.length - complete > LONGEST;
    if (!complete && !isLong) {
      return false;
    }
    const next = this.pending.indexOf('\n', WINDOW) + 1;
    const size = next > 0 ? Math.min(next, complete) : complete;
    const rows = this.rows(this.pending.slice(0, size));
    if (rows > 0) {
      pieces.push({ kind: 'rows', text: this.pending.slice(0, rows) });
      this.drop(rows);
    }
    if (rows < size || (rows === size && isLong && size === complete)) {
      pieces.push({ kind: 'end' });
      this.enter('text');
      return true;
    }
    return rows > 0 && this.pending.includes('\n');
  }

  /** How much of `text` is rows of the open table. */
  private rows(text: string): number {
    const [token] = this.tokens(this.head + text);
    const lines = (token.map?.[1] ?? 2) - 2;
    const starts = lineStarts(text);
    for (let line = 0; line < lines; line++) {
      if (starts[line + 1] - starts[line] > LONGEST) {
        return starts[line];
      }
    }
    return starts[lines];
  }

  private code(pieces: Piece[]): boolean {
    const text = this.pending;
    let at = 0;
    let shown = '';
    let closed = false;
    while (at < text.length) {
      const end = text.indexOf('\n', at) + 1;
      const line = end > 0 ? text.slice(at, end) : text.slice(at);
      const mayClose = this.atLineStart && this.mayClose(line.trimEnd());
      if (end > 0 && mayClose && this.closes(line)) {
        at = end;
        closed = true;
        break;
      }
      if (
        end === 0 &&
        (mayClose || (this.atLineStart && line.length < LONG_LINE))
      ) {
        break;
      }
      shown += this.atLineStart ? this.unindented(line) : line;
      this.atLineStart = end > 0;
      at += line.length;
    }
    if (shown) {
      pieces.push({ kind: 'lines', text: shown });
    }
    if (at > 0) {
      this.drop(at);
    }
    if (closed) {
      pieces.push({ kind: 'end' });
      this.enter('text');
    }
    return closed;
  }

  private mayClose(line: string): boolean {
    return this.fence.mark === '`'
      ? /^ {0,3}`*[ \t]*$/.test(line)
      : /^ {0,3}~*[ \t]*$/.test(line);
  }

  private closes(line: string): boolean {
    const marks = line.trim();
    return this.mayClose(line.trimEnd()) && marks.length >= this.fence.length;
  }

  /** A line of code without the indent of its fence. */
  private unindented(line: string): string {
    let column = 0;
    let at = 0;
    while (column < this.fence.indent && at < line.length) {
      if (line[at] === '\t') {
        column += 4 - (column % 4);
      } else if (line[at] === ' ') {
        column++;
      } else {
        break;
      }
      at++;
    }
    return ' '.repeat(Math.max(0, column - this.fence.indent)) + line.slice(at);
  }

  private tokens(text: string): Token[] {
    const tokens: Token[] = [];
    this.parser.block.parse(text, this.parser, {}, tokens);
    return tokens;
  }

  private blocks(text: string): IBlock[] {
    const blocks: IBlock[] = [];
    let isList = false;
    let first = true;
    for (const token of this.tokens(text)) {
      if (token.level === 0 && token.nesting >= 0 && token.map) {
        const [start, end] = token.map;
        isList = token.type.endsWith('_list_open');
        if (isList) {
          first = blocks.length > 0 || this.within !== 'list';
          continue;
        }
        const kind =
          token.type === 'fence'
            ? 'fence'
            : token.type === 'table_open'
              ? 'table'
              : 'block';
        blocks.push({ kind, first: true, start, end });
      } else if (isList && token.level === 1 && token.nesting === 1) {
        const [start, end] = token.map!;
        blocks.push({ kind: 'item', first, start, end });
        first = false;
      }
    }
    return blocks;
  }
}

/** Whether a block begins something that grows by lines. */
function isOpening(block: IBlock, starts: number[]): boolean {
  const { kind, start } = block;
  return (
    kind === 'table' ||
    (kind === 'fence' && starts[start + 1] - starts[start] <= LONGEST)
  );
}

/**
 * Whether a block can no longer change: another begins behind it, and one more line is there, for a line may turn out
 * to be the head of a table. Definitions between the two may have a title that goes on; then it takes a third.
 */
function isOver(
  starts: number[],
  window: string,
  blocks: IBlock[],
  index: number
): boolean {
  const next = blocks[index + 1];
  if (!next) {
    return false;
  }
  const lines = starts.length - 1;
  const isSure =
    lines > next.start + 1 ||
    starts[next.start + 1] - starts[next.start] > LONGEST;
  if (!isSure) {
    return false;
  }
  const between = window.slice(starts[blocks[index].end], starts[next.start]);
  return !between.trim() || isOver(starts, '', blocks, index + 1);
}

/** Where each line starts, and where the last one ends. */
function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) {
    starts.push(at + 1);
  }
  if (starts[starts.length - 1] < text.length) {
    starts.push(text.length);
  }
  return starts;
}

/** A cut that splits no character. */
function whole(text: string, at: number): number {
  return /[\ud800-\udbff]/.test(text[at - 1] ?? '') ? at - 1 : at;
}
