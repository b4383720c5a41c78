/**
 * An answer as Markdown, while it grows. What the splitter gives out is drawn once and left alone; what follows it, the
 * tail, is drawn again with every frame, into the same nodes.
 */
import { ITail, Piece, Splitter } from '../../blocks';
import { recede } from '../far';
import { IBody, TextBody } from '../text';
import { CodeBlock } from './code';
import { Drawn, IElement, patch } from './dom';
import { IBudget, budget, draw } from './draw';
import { Typesetting } from './math';
import { Env, createParser, define, environment } from './parser';

/** A group of finished pieces is closed at this many characters: the page lays it out on its own. */
const GROUP = 4000;
/** A list or table goes on in another after so many, for the page lays out the whole of one when it grows. */
const MEMBERS = 100;

const parser = createParser();

/** What the splitter's open container is on the page. */
type Open =
  | {
      kind: 'list';
      lists: HTMLElement[];
      count: number;
      blank: boolean;
      loose: boolean;
    }
  | { kind: 'table'; box: HTMLElement; body: HTMLElement; count: number }
  | { kind: 'code'; block: CodeBlock }
  | { kind: 'plain'; body: TextBody };
type OpenList = Extract<Open, { kind: 'list' }>;
type OpenTable = Extract<Open, { kind: 'table' }>;

/** Draws Markdown into a box. */
export class MarkdownBody implements IBody {
  private splitter = new Splitter(parser);
  private known: Env = environment();
  private spend: IBudget = budget();
  private group: HTMLElement | null = null;
  private size = 0;
  /** How many children of the group are finished. */
  private fixed = 0;
  private open: Open | null = null;
  private typesetting: Typesetting;

  constructor(
    private node: HTMLElement,
    drawn: (change: () => void) => void = change => change()
  ) {
    this.typesetting = new Typesetting(drawn);
  }

  append(more: string, done: boolean): void {
    for (const piece of this.splitter.push(more)) {
      this.take(piece);
    }
    this.drawTail(this.splitter.tail, done);
    if (done && this.group) {
      // the tail is as finished as it gets
      this.typesetting.take(this.group);
    }
  }

  dispose(): void {
    this.typesetting.dispose();
  }

  private take(piece: Piece): void {
    switch (piece.kind) {
      case 'block':
        this.close();
        this.seal(this.parsed(piece.text));
        this.grow(piece.text.length);
        break;
      case 'item':
        this.item(piece.text, piece.first);
        break;
      case 'table': {
        this.close();
        const [drawn] = this.parsed(piece.text);
        const group = this.into();
        patch(group, [drawn], this.fixed);
        const box = group.childNodes[this.fixed++] as HTMLElement;
        const body = document.createElement('tbody');
        box.firstChild!.appendChild(body);
        this.open = { kind: 'table', box, body, count: 0 };
        break;
      }
      case 'rows':
        if (this.open?.kind === 'table') {
          let [rows] = this.rows(piece.text);
          while (rows.length) {
            this.room(this.open);
            const { body, count } = this.open;
            const now = rows.slice(0, MEMBERS - count);
            patch(body, now, count);
            this.finish(body, count);
            this.open.count += now.length;
            rows = rows.slice(now.length);
          }
        }
        break;
      case 'code': {
        this.close();
        const group = this.into();
        const block = new CodeBlock(piece.info);
        this.cut(group);
        group.appendChild(block.node);
        this.fixed++;
        this.open = { kind: 'code', block };
        break;
      }
      case 'lines':
        if (this.open?.kind === 'code') {
          this.open.block.append(piece.text);
          this.size += piece.text.length;
        }
        break;
      case 'plain':
        this.plain(piece.text);
        break;
      case 'end':
        this.close();
    }
  }

  /** The open container is finished; a new group may begin. */
  private close(): void {
    if (this.open?.kind === 'code') {
      this.open.block.finish();
    } else if (this.open?.kind === 'table') {
      patch(this.open.body, [], this.open.count);
      if (this.open.count === 0 && this.open.box.children.length > 1) {
        this.open.box.lastChild!.remove();
      }
    } else if (this.open?.kind === 'list') {
      patch(lastOf(this.open), [], this.open.count);
    }
    this.open = null;
    if (this.size > GROUP && this.group) {
      this.cut(this.group);
      this.group = null;
    }
  }

  private grow(length: number): void {
    this.size += length;
    if (this.size > GROUP && !this.open && this.group) {
      this.cut(this.group);
      this.group = null;
    }
  }

  private into(): HTMLElement {
    if (!this.group) {
      this.group = document.createElement('div');
      this.group.className = 'ts-Block';
      this.node.appendChild(this.group);
      recede(this.node);
      this.size = 0;
      this.fixed = 0;
    }
    return this.group;
  }

  /** Takes the drawn tail away from behind what is finished. */
  private cut(group: HTMLElement): void {
    patch(group, [], this.fixed);
  }

  private seal(drawn: readonly Drawn[]): void {
    const group = this.into();
    patch(group, drawn, this.fixed);
    this.finish(group, this.fixed);
    this.fixed += drawn.length;
  }

  private finish(parent: Element, from: number): void {
    for (let index = from; index < parent.children.length; index++) {
      this.typesetting.take(parent.children[index]);
    }
  }

  private item(text: string, first: boolean): void {
    const [list] = this.parsed(text) as IElement[];
    if (first || this.open?.kind !== 'list') {
      this.close();
      const group = this.into();
      patch(group, [list], this.fixed);
      const node = group.childNodes[this.fixed++] as HTMLElement;
      this.cut(group);
      this.open = {
        kind: 'list',
        lists: [node],
        count: 1,
        blank: false,
        loose: false
      };
    } else {
      const items = list.children ?? [];
      this.goOn(this.open);
      patch(lastOf(this.open), items, this.open.count);
      this.open.count += items.length;
      this.open.loose ||= this.open.blank;
    }
    this.open.loose ||= list.className === 'ts-loose';
    this.open.blank = /\n[ \t]*\n$/.test(text);
    space(this.open, this.open.loose);
    this.finish(lastOf(this.open), this.open.count - 1);
    this.size += text.length;
  }

  /** Another list of the same kind, in a group of its own, when this one is full. */
  private goOn(open: OpenList): void {
    if (open.count < MEMBERS) {
      return;
    }
    const full = lastOf(open);
    patch(full, [], open.count);
    const next = document.createElement(full.localName as 'ol' | 'ul');
    if (next instanceof HTMLOListElement) {
      next.start = (full as HTMLOListElement).start + open.count;
    }
    this.group = null;
    this.into().appendChild(next);
    this.fixed = 1;
    open.lists.push(next);
    open.count = 0;
  }

  /** Another table below a full one, with columns as wide. */
  private room(open: OpenTable): void {
    if (open.count < MEMBERS) {
      return;
    }
    patch(open.body, [], open.count);
    const full = open.body.parentElement as HTMLTableElement;
    const widths = [...(full.rows[0]?.cells ?? [])].map(
      cell => cell.getBoundingClientRect().width
    );
    const next = document.createElement('table');
    if (widths.some(width => width > 0)) {
      fix(full, widths);
      fix(next, widths);
    }
    open.body = document.createElement('tbody');
    next.appendChild(open.body);
    // what is a table itself the page always lays out
    const rows = document.createElement('div');
    rows.className = 'ts-Rows';
    rows.appendChild(next);
    open.box.appendChild(rows);
    recede(open.box, 2);
    open.count = 0;
  }

  private plain(text: string): void {
    if (this.open?.kind !== 'plain') {
      this.close();
      const group = this.into();
      this.cut(group);
      const box = document.createElement('div');
      box.className = 'ts-Plain';
      group.appendChild(box);
      this.fixed++;
      this.open = { kind: 'plain', body: new TextBody(box) };
    }
    this.open.body.append(text);
    this.size += text.length;
  }

  private drawTail(tail: ITail, done: boolean): void {
    if (this.open?.kind === 'code') {
      this.open.block.tail(this.splitter.codeTail(done));
      return;
    }
    if (this.open?.kind === 'plain') {
      return; // what is held back is blank
    }
    const text = done ? tail.text : withoutHint(tail.text);
    if (this.open?.kind === 'table') {
      const [rows, rest] = this.rows(text, true);
      if (rows.length) {
        this.room(this.open);
      }
      patch(this.open.body, rows, this.open.count);
      patch(this.into(), rest, this.fixed);
      return;
    }
    const drawn = this.parsed(text, true);
    if (this.open?.kind === 'list' && tail.within === 'list') {
      const [list, ...rest] = drawn as IElement[];
      const items = list?.children ?? [];
      if (items.length) {
        this.goOn(this.open);
      }
      patch(lastOf(this.open), items, this.open.count);
      const { loose, blank } = this.open;
      const isLoose =
        items.length > 0 && (blank || list.className === 'ts-loose');
      space(this.open, loose || isLoose);
      patch(this.into(), rest, this.fixed);
      return;
    }
    if (this.open?.kind === 'list') {
      this.close();
    }
    if (drawn.length || this.group) {
      patch(this.into(), drawn, this.fixed);
    }
  }

  /** Tokens to nodes. Definitions of a tail count for the tail; those of a piece for all that follows too. */
  private parsed(text: string, isTail = false): Drawn[] {
    const env = environment(this.known);
    const tokens = parser.parse(text, env);
    if (!isTail) {
      define(this.known, env);
    }
    return draw(tokens, isTail ? { ...this.spend } : this.spend);
  }

  /** Rows of the open table, and what is behind its end. */
  private rows(text: string, isTail = false): [Drawn[], Drawn[]] {
    if (!text.trim()) {
      return [[], []];
    }
    const [table, ...rest] = this.parsed(
      this.splitter.tableHead + text,
      isTail
    ) as IElement[];
    const body = (table?.children?.[0] as IElement | undefined)?.children?.[1];
    return [(body as IElement | undefined)?.children ?? [], rest];
  }
}

/**
 * The tail without a last line that is too short to tell what it is: `-` is a list, a rule or what makes a heading of
 * the line above. It is shown with the next character.
 */
function withoutHint(text: string): string {
  const at = text.lastIndexOf('\n') + 1;
  let end = text.length;
  while (end > at && ' \t'.includes(text[end - 1])) {
    end--; // in an expression this would cost the square of the blanks
  }
  const line = text.slice(at, end);
  return /^[\s>]*([-=*+_#>`~|:$\\]{1,3}|\d{1,9}[.)]?)?$/.test(line)
    ? text.slice(0, at)
    : text;
}

function lastOf(open: OpenList): HTMLElement {
  return open.lists[open.lists.length - 1];
}

/** A list with air between its items, or without. */
function space(open: OpenList, isLoose: boolean): void {
  const air = isLoose ? 'ts-loose' : 'ts-tight';
  for (let at = open.lists.length - 1; at >= 0; at--) {
    const more = at + 1 < open.lists.length ? ' ts-more' : '';
    const name = air + more + (at > 0 ? ' ts-again' : '');
    if (open.lists[at].className === name) {
      if (more) {
        break; // those before it are as they should be
      }
    } else {
      open.lists[at].className = name;
    }
  }
}

/** Gives the columns of a table these widths. */
function fix(table: HTMLTableElement, widths: number[]): void {
  if (table.style.tableLayout === 'fixed') {
    return;
  }
  const columns = document.createElement('colgroup');
  for (const width of widths) {
    const column = document.createElement('col');
    column.style.width = `${width}px`;
    columns.appendChild(column);
  }
  table.prepend(columns);
  table.style.tableLayout = 'fixed';
  table.style.width = `${widths.reduce((sum, width) => sum + width, 0)}px`;
}
