/**
 * The growing answer in its box, drawn as its format says. What is finished is sealed and never touched again, so a
 * frame costs the same at a hundred tokens and at a hundred thousand. The box follows its tail only while the reader is
 * at the bottom; in a tab that is hidden, for the reader who was there when it was hidden.
 */
import type { Growth } from '../state';
import { element } from './elements';
import { MarkdownBody } from './markdown/body';
import { CodeBody } from './markdown/codebody';
import { JsonBody } from './markdown/json';
import { Sliced } from './sliced';
import { IBody, TextBody } from './text';

export { split } from './text';

const NEAR_BOTTOM_PX = 24;

/** How an answer is drawn: `--format`. */
export type Format = 'markdown' | 'text' | 'json' | 'code';

/** The format a name stands for; Markdown, when it stands for none. */
export function formatOf(name: unknown): Format {
  return name === 'text' || name === 'json' || name === 'code'
    ? name
    : 'markdown';
}

/** A box of text that grows at its end. */
export class Answer {
  readonly node = element('div', 'ts-Answer');
  private last = '';
  /** How what is shown grew, and how many pieces of that are shown. */
  private growth: Growth | null = null;
  private taken = 0;
  private over = false;
  private looked: boolean | null = null;
  /** Whether the reader was at the end when the box was last seen to be laid out; in a hidden tab it is not. */
  private following = true;
  private isLaidOut = false;
  /** Whether it ever was. */
  private isSeen = false;
  private resized: ResizeObserver | null = null;
  private body: IBody;

  constructor(
    private drawnAs: Format = 'markdown',
    label = ''
  ) {
    this.node.tabIndex = 0;
    this.node.setAttribute('role', 'article');
    if (label) {
      this.node.setAttribute('aria-label', label);
    }
    this.body = this.begin();
    this.node.addEventListener('scroll', () => this.isAtBottom(), {
      passive: true
    });
    if (typeof ResizeObserver !== 'undefined') {
      this.resized = new ResizeObserver(() => {
        this.isLaidOut = false;
        this.isAtBottom();
      });
      this.resized.observe(this.node);
    }
  }

  /** How the text is drawn. Another format draws it anew. */
  get format(): Format {
    return this.drawnAs;
  }

  set format(format: Format) {
    if (format === this.drawnAs) {
      return;
    }
    const { last, over } = this;
    this.drawnAs = format;
    this.clear();
    this.update(last, over);
  }

  /**
   * Shows `text`, which normally begins with what is shown already; if it does not, it is drawn anew. `done` says that
   * nothing will follow, so that what was held back because it could still become something else is shown. With its
   * `growth`, only what is new of the text is looked at. What comes whole is read from its beginning.
   */
  update(text: string, done: boolean = false, growth?: Growth): void {
    const known = growth?.length === text.length ? growth : null;
    const goesOn = known !== null && known === this.growth;
    const isSame = goesOn
      ? known.pieces.length === this.taken
      : text === this.last;
    if (isSame && (this.over || !done)) {
      this.looked = null;
    } else {
      if (done && !this.last) {
        this.following = this.looked = false;
      }
      this.keepingPlace(() => {
        if (!goesOn && !text.startsWith(this.last)) {
          this.clear();
        }
        const more = goesOn
          ? known.since(this.taken)
          : text.slice(this.last.length);
        this.body.append(more, done);
        this.last = text;
        this.over = done;
      });
    }
    this.growth = known;
    this.taken = known?.pieces.length ?? 0;
  }

  /**
   * Notes where the reader is, for the next update. Asked before anything of the page is changed it costs nothing;
   * later it would cost a layout.
   */
  look(): void {
    this.looked = this.isAtBottom();
  }

  /** Whether the reader is at the end, and so wants to stay there. */
  isAtBottom(): boolean {
    const { scrollHeight, clientHeight } = this.node;
    if (!clientHeight) {
      this.isLaidOut = false;
      return this.following;
    }
    // shown again, or of another size: that is not the reader's doing; what was never seen until it was whole has no reader yet
    if (!this.isLaidOut && this.following && (this.isSeen || !this.over)) {
      this.node.scrollTop = scrollHeight;
    }
    this.isLaidOut = this.isSeen = true;
    const below = scrollHeight - this.node.scrollTop - clientHeight;
    this.following = below < NEAR_BOTTOM_PX;
    return this.following;
  }

  /** Nothing more is drawn. */
  dispose(): void {
    this.resized?.disconnect();
    this.body.dispose();
  }

  private keepingPlace(change: () => void): void {
    const follow = this.looked ?? this.isAtBottom();
    this.looked = null;
    change();
    if (follow) {
      this.node.scrollTop = this.node.scrollHeight;
    }
  }

  private clear(): void {
    this.body.dispose();
    this.node.replaceChildren();
    this.last = '';
    this.growth = null;
    this.over = false;
    this.body = this.begin();
  }

  private begin(): IBody {
    this.node.dataset.format = this.drawnAs;
    const drawn = (change: () => void): void => this.keepingPlace(change);
    return new Sliced(this.bodyOf(drawn), change => {
      drawn(change);
      this.isAtBottom(); // lays it out
    });
  }

  private bodyOf(drawn: (change: () => void) => void): IBody {
    switch (this.drawnAs) {
      case 'text':
        return new TextBody(this.node);
      case 'json':
        return new JsonBody(this.node);
      case 'code':
        return new CodeBody(this.node);
      default:
        return new MarkdownBody(this.node, drawn);
    }
  }
}
