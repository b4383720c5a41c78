/** Plain text that grows: finished lines are sealed into blocks that are never touched again. */
import { element } from './elements';
import { recede } from './far';

/** A block is sealed at the first line end after this many characters, or anywhere at four times as many. */
const BLOCK = 2000;

/** How an answer is drawn into its box. */
export interface IBody {
  /** More of the text. `done` says that no more will come. */
  append(more: string, done: boolean): void;
  dispose(): void;
}

/** Text as it is. */
export class TextBody implements IBody {
  private tail: Text | null = null;

  constructor(private node: HTMLElement) {}

  append(more: string): void {
    let rest = more;
    while (rest) {
      const tail = this.tail ?? this.open();
      const [now, later] = split(rest, BLOCK - tail.length);
      tail.appendData(now);
      rest = later;
      if (isFull(tail.data) || afterMarks(tail.data) > 0) {
        this.tail = null;
      }
    }
  }

  dispose(): void {
    this.tail = null;
  }

  private open(): Text {
    const block = element('div', 'ts-Block');
    this.tail = document.createTextNode('');
    block.appendChild(this.tail);
    this.node.appendChild(block);
    recede(this.node);
    return this.tail;
  }
}

/** The page shapes combining marks on one letter in the square of their number; where there are so many, they are parted. */
const MARKS = 500;
const MANY_MARKS = new RegExp(`(?<!\\p{M})\\p{M}{${MARKS}}`, 'u');

/** Where text should be parted because of its marks; -1 where it need not. */
export function afterMarks(text: string): number {
  const many = MANY_MARKS.exec(text);
  return many ? many.index + many[0].length : -1;
}

/** Splits behind the first line end after `room` characters, at four blocks where there is none, or behind too many marks. */
export function split(text: string, room: number): [string, string] {
  const marks = afterMarks(text.slice(0, 4 * BLOCK));
  const most = marks > 0 ? marks : Math.max(1, room + 3 * BLOCK);
  const end = text.indexOf('\n', Math.max(0, room));
  let cut = end >= 0 ? Math.min(end + 1, most) : most;
  if (cut < text.length && cut > 1 && /[\ud800-\udbff]/.test(text[cut - 1])) {
    cut--;
  }
  return [text.slice(0, cut), text.slice(cut)];
}

function isFull(text: string): boolean {
  return (
    (text.length >= BLOCK && text.endsWith('\n')) ||
    text.length >= 4 * BLOCK - 1
  );
}
