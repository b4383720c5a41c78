/** A long text in slices, one a frame, so that no slice holds the page: what a reload or an opened notebook brings at once. */
import type { IBody } from './text';

/** What the page lays out in a few ten milliseconds. */
const SLICE = 60_000;

/** Hands a body what it can draw in a frame. */
export class Sliced implements IBody {
  private rest = '';
  private done = false;
  private frame: number | null = null;

  /** `drawn` is called with every change that comes in a frame of its own. */
  constructor(
    private body: IBody,
    private drawn: (change: () => void) => void
  ) {}

  append(more: string, done: boolean): void {
    this.rest += more;
    this.done = done;
    if (this.frame === null) {
      this.next();
    }
  }

  dispose(): void {
    if (this.frame !== null) {
      cancelAnimationFrame(this.frame);
      this.frame = null;
    }
    this.rest = '';
    this.body.dispose();
  }

  private next(): void {
    const now = this.rest.slice(0, whole(this.rest, SLICE));
    this.rest = this.rest.slice(now.length);
    this.body.append(now, this.done && !this.rest);
    if (this.rest) {
      this.frame = requestAnimationFrame(() => {
        this.frame = null;
        this.drawn(() => this.next());
      });
    }
  }
}

/** A cut that splits no character. */
function whole(text: string, at: number): number {
  return /[\ud800-\udbff]/.test(text[at - 1] ?? '') && at < text.length
    ? at - 1
    : at;
}
