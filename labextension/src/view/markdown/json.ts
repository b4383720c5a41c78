/**
 * JSON while it grows: indented and coloured token by token, each of which is looked at once. A value that is not
 * finished is shown as far as it came; what turns out to be no JSON is shown as it is.
 */
import { recede } from '../far';
import { IBody, TextBody } from '../text';
import { CodeBlock } from './code';

/** A stretch of JSON of one kind. */
export type Kind = 'key' | 'string' | 'number' | 'word' | 'mark' | 'space';

type Expect = 'value' | 'value or ]' | 'key' | 'key or }' | ':' | ', or end';

const DEEPEST_INDENT = 40;
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
const NUMBER_SO_FAR = /^-?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d*)?$/;
const WORDS = ['true', 'false', 'null'];

/** Reads JSON as it comes and says how to show it. */
export class JsonReader {
  /** Why this is no JSON; empty while it may be. */
  problem = '';
  private stack: ('{' | '[')[] = [];
  private expect: Expect = 'value';
  private token: 'string' | 'key' | 'number' | 'word' | '' = '';
  private word = '';
  private escape = 0;
  private fresh = false;

  constructor(private put: (kind: Kind, text: string) => void) {}

  /** Takes more text. */
  push(text: string): void {
    let at = 0;
    while (at < text.length && !this.problem) {
      at = this.token ? this.inside(text, at) : this.between(text, at);
    }
  }

  /** Whether a whole value has come. */
  get isWhole(): boolean {
    return (
      !this.problem &&
      !this.stack.length &&
      (this.expect === ', or end' ||
        (this.token === 'number' && NUMBER.test(this.word)))
    );
  }

  private between(text: string, at: number): number {
    const mark = text[at];
    if (mark === ' ' || mark === '\n' || mark === '\r' || mark === '\t') {
      return at + 1;
    }
    switch (mark) {
      case '}':
      case ']':
        this.ends(mark);
        return at + 1;
      case ',':
        this.comma();
        return at + 1;
      case ':':
        this.allow(this.expect === ':');
        this.put('mark', ':');
        this.put('space', ' ');
        this.expect = 'value';
        return at + 1;
      case '"':
        return this.quote(at);
      default:
        return this.begins(mark, at);
    }
  }

  private quote(at: number): number {
    const isKey = this.expect.startsWith('key');
    if (this.allow(isKey || this.expect.startsWith('value'))) {
      this.line();
      this.token = isKey ? 'key' : 'string';
      this.escape = 0;
      this.put(this.token, '"');
    }
    return at + 1;
  }

  private begins(mark: string, at: number): number {
    if (!this.allow(this.expect.startsWith('value'))) {
      return at;
    }
    if (mark === '{' || mark === '[') {
      this.line();
      this.put('mark', mark);
      this.stack.push(mark);
      this.expect = mark === '{' ? 'key or }' : 'value or ]';
      this.fresh = true;
      return at + 1;
    }
    this.word = '';
    this.token = /[-\d]/.test(mark) ? 'number' : 'word';
    if (this.allow(this.token === 'number' || /[tfn]/.test(mark))) {
      this.line();
    }
    return at;
  }

  private inside(text: string, at: number): number {
    return this.token === 'string' || this.token === 'key'
      ? this.string(text, at)
      : this.scalar(text, at);
  }

  private string(text: string, from: number): number {
    let at = from;
    for (; at < text.length; at++) {
      const mark = text[at];
      if (this.escape > 0) {
        const isRight =
          this.escape === 5
            ? /["\\/bfnrtu]/.test(mark)
            : /[\da-fA-F]/.test(mark);
        if (!this.allow(isRight)) {
          return at;
        }
        this.escape =
          this.escape === 5 ? (mark === 'u' ? 4 : 0) : this.escape - 1;
      } else if (mark === '\\') {
        this.escape = 5;
      } else if (mark === '"') {
        break;
      } else if (!this.allow(mark >= ' ')) {
        return at;
      }
    }
    const isOver = at < text.length;
    const kind = this.token as 'string' | 'key';
    this.put(kind, text.slice(from, isOver ? at + 1 : at));
    if (isOver) {
      this.token = '';
      this.expect = kind === 'key' ? ':' : ', or end';
    }
    return isOver ? at + 1 : at;
  }

  private scalar(text: string, from: number): number {
    let at = from;
    while (at < text.length && /[-+.\w]/.test(text[at])) {
      at++;
    }
    const more = text.slice(from, at);
    this.word += more;
    const isNumber = this.token === 'number';
    const mayBe = isNumber
      ? this.word.length < 2000 && NUMBER_SO_FAR.test(this.word)
      : WORDS.some(word => word.startsWith(this.word));
    if (!this.allow(mayBe)) {
      return at;
    }
    this.put(isNumber ? 'number' : 'word', more);
    if (at < text.length) {
      this.allow(isNumber ? NUMBER.test(this.word) : WORDS.includes(this.word));
      this.token = '';
      this.expect = ', or end';
    } else if (!isNumber && WORDS.includes(this.word)) {
      this.token = '';
      this.expect = ', or end';
    }
    return at;
  }

  private comma(): void {
    const top = this.stack[this.stack.length - 1];
    if (this.allow(this.expect === ', or end' && top !== undefined)) {
      this.put('mark', ',');
      this.expect = top === '{' ? 'key' : 'value';
      this.fresh = true;
    }
  }

  private ends(mark: '}' | ']'): void {
    const top = this.stack.pop();
    const isEmpty = this.expect === 'key or }' || this.expect === 'value or ]';
    this.allow(
      top === (mark === '}' ? '{' : '[') &&
        (isEmpty || this.expect === ', or end')
    );
    this.fresh = !isEmpty;
    this.line();
    this.fresh = false;
    this.put('mark', mark);
    this.expect = ', or end';
  }

  /** A new line, where one is due. */
  private line(): void {
    if (this.fresh && !this.problem) {
      const depth = Math.min(this.stack.length, DEEPEST_INDENT);
      this.put('space', '\n' + '  '.repeat(depth));
    }
    this.fresh = false;
  }

  private allow(right: boolean): boolean {
    if (!right) {
      this.problem ||= 'no JSON';
    }
    return right;
  }
}

const CLASSES: Record<Kind, string> = {
  key: 'ts-Key',
  string: 'ts-String',
  number: 'ts-Number',
  word: 'ts-Word',
  mark: '',
  space: ''
};
/** A group of lines is closed at the first line end behind so many nodes. */
const GROUP = 200;

/** Draws JSON into a box. */
export class JsonBody implements IBody {
  private reader = new JsonReader((kind, text) => this.put(kind, text));
  private text = '';
  private plain: TextBody | null = null;
  private block = new CodeBlock('json');
  private group: HTMLElement | null = null;
  private kind: Kind | '' = '';
  private last: Text | null = null;

  constructor(private node: HTMLElement) {
    this.block.drawnByOthers(() => this.text);
  }

  append(more: string, done: boolean): void {
    this.text += more;
    if (!this.plain) {
      if (this.text && !this.block.node.isConnected) {
        this.node.appendChild(this.block.node);
      }
      this.reader.push(more);
      const isCut = done && this.text.trim() && !this.reader.isWhole;
      if (this.reader.problem || (isCut && !/^\s*[[{"]/.test(this.text))) {
        this.giveUp();
      }
      return;
    }
    this.plain.append(more);
  }

  dispose(): void {
    this.group = null;
  }

  /** It is not JSON: it is shown as it came. */
  private giveUp(): void {
    this.block.node.remove();
    this.plain = new TextBody(this.node);
    this.plain.append(this.text);
  }

  private put(kind: Kind, text: string): void {
    if (
      this.kind === kind &&
      this.last &&
      kind !== 'space' &&
      kind !== 'mark' &&
      this.last.length + text.length < 8000
    ) {
      this.last.appendData(text);
      return;
    }
    const starts = kind === 'space' && text.startsWith('\n');
    if (starts && (this.group?.childNodes.length ?? 0) > GROUP) {
      this.group!.append('\n');
      this.group = null;
      text = text.slice(1);
    }
    if (!this.group) {
      this.group = document.createElement('span');
      this.group.className = 'ts-Lines';
      this.block.lines.appendChild(this.group);
      recede(this.block.lines);
    }
    this.kind = kind;
    this.last = document.createTextNode(text);
    if (CLASSES[kind]) {
      const node = document.createElement('span');
      node.className = CLASSES[kind];
      node.appendChild(this.last);
      this.group.appendChild(node);
    } else {
      this.group.appendChild(this.last);
    }
  }
}
