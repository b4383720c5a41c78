/** A long text in slices, one a frame, so that no slice holds the page: what a reload or an opened notebook brings at once. */
import type { IBody } from './text';

/** How many characters a slice has at first, */
const FIRST = 20_000;
/** and as many as it takes for the next to hold the page about so long: a thousand links cost what a million letters do. */
const SLICE_MS = 24;
const LEAST = 8000;
const MOST = 60_000;

/** Hands a body what it can draw in a frame. */
export class Sliced implements IBody {
  private rest = '';
  private done = false;
  /** Whether there is something that the body was not told. */
  private isNews = false;
  private size = FIRST;
  private frame: number | null = null;

  /** `drawn` is called with every change that comes in a frame of its own; when it returns, that is laid out. */
  constructor(
    private body: IBody,
    private drawn: (change: () => void) => void
  ) {}

  append(more: string, done: boolean): void {
    this.rest += more;
    this.done = done;
    this.isNews = true;
    if (this.frame === null) {
      this.next();
      if (this.isNews) {
        this.goOn();
      }
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

  /** The next slice in the next frame, and none before: what comes in this one waits. */
  private goOn(): void {
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      if (!this.isNews) {
        return;
      }
      const began = performance.now();
      const { length } = this.rest;
      this.drawn(() => this.next());
      this.fit(length - this.rest.length, performance.now() - began);
      this.goOn();
    });
  }

  private next(): void {
    const now = this.rest.slice(0, whole(this.rest, this.size));
    this.rest = this.rest.slice(now.length);
    this.isNews = this.rest !== '';
    this.body.append(now, this.done && !this.isNews);
  }

  /** So many characters took so many ms. */
  private fit(length: number, ms: number): void {
    if (length >= this.size - 1 || ms > SLICE_MS) {
      const fitting = (length * SLICE_MS) / Math.max(ms, 1);
      const most = Math.min(MOST, 2 * this.size);
      this.size = Math.round(Math.min(most, Math.max(LEAST, fitting)));
    }
  }
}

/** A cut that splits no character. */
function whole(text: string, at: number): number {
  return /[\ud800-\udbff]/.test(text[at - 1] ?? '') && at < text.length
    ? at - 1
    : at;
}
