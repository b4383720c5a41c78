/**
 * What this page tells the kernel of its drawing: which messages were painted when, on the page's own clock. Once a
 * second and at the end, never more often: some ten bytes a frame. What was not in view does not count, because a browser
 * does not draw a tab that nobody sees.
 */

/** How long frames are gathered before they are told. */
export const REPORT_MS = 1000;

/** More frames than this are not kept; a second has 60, or 240 on the fastest displays. */
const MOST_FRAMES = 400;

/** Messages up to this one, when it was received, when they were painted; null where that is not known or does not count. */
type Frame = [number, number | null, number | null];

/** What the kernel is sent; times of frames in ms before `clock`. */
export type IDrawn = {
  op: 'drawn';
  page: string;
  seq: number;
  clock: number;
  frames: Frame[];
  work: number;
};

/** Calls back in the task after the next paint, when used in an animation frame. */
export function afterPaint(call: () => void): void {
  waiting.push(call);
  if (waiting.length === 1) {
    channel ??= opened();
    channel.port2.postMessage(null);
  }
}

const waiting: (() => void)[] = [];
let channel: MessageChannel | null = null;

function opened(): MessageChannel {
  const made = new MessageChannel();
  made.port1.onmessage = () => waiting.splice(0).forEach(call => call());
  return made;
}

/** Follows the drawing of one stream. */
export class Drawn {
  /** Tells this page's reports from another's. */
  readonly page = Math.random().toString(36).slice(2);
  private frames: Frame[] = [];
  private newestAt: number | null = null;
  /** The last message that was painted, and the last one told of. */
  private painted: number;
  private told: number;
  /** Nothing up to this message was this page's to draw in time. */
  private missed: number;
  private work = 0;
  private timer: number | null = null;

  /** `newest`: the page knows of all up to this message from before. */
  constructor(
    private send: (report: IDrawn) => void,
    private newest = 0
  ) {
    this.painted = this.told = this.missed = newest;
    document.addEventListener('visibilitychange', this.skip);
  }

  /** Message number `seq` is in. */
  received(seq: number, now: number): void {
    if (seq > this.newest) {
      this.newest = seq;
      this.newestAt = now;
    }
  }

  /** What came so far and is not drawn does not count: nobody saw this page, or no view of it was there. */
  skip = (): void => {
    this.missed = this.newest;
  };

  /** In an animation frame: all up to `seq` is in the page, which took `work` ms; `over` when no more will come. */
  drew(seq: number, work: number, over: boolean): void {
    this.work += work;
    if (seq <= this.painted && !over) {
      return;
    }
    const received = seq === this.newest ? this.newestAt : null;
    if (document.visibilityState !== 'visible') {
      this.missed = Math.max(this.missed, seq);
    }
    afterPaint(() => {
      this.keep(seq, received, performance.now());
      if (over) {
        this.tell();
      } else {
        this.timer ??= window.setTimeout(() => this.tell(), REPORT_MS);
      }
    });
  }

  private keep(seq: number, received: number | null, now: number): void {
    const missed = Math.min(this.missed, seq);
    for (const frame of [
      [missed, null, null],
      [seq, received, now]
    ] as Frame[]) {
      if (frame[0] > this.painted && this.frames.length < MOST_FRAMES) {
        this.frames.push(frame);
        this.painted = frame[0];
      }
    }
  }

  /** Tells what is painted, now. */
  tell(): void {
    window.clearTimeout(this.timer ?? undefined);
    this.timer = null;
    if (!this.frames.length) {
      return;
    }
    const clock = performance.now();
    const ago = (at: number | null): number | null =>
      at === null ? null : rounded(clock - at);
    let before = this.told;
    const frames = this.frames.map(([seq, received, painted]): Frame => {
      const messages = seq - before;
      before = seq;
      return [messages, ago(received), ago(painted)];
    });
    this.told = before;
    this.frames = [];
    const work = rounded(this.work);
    this.work = 0;
    this.send({
      op: 'drawn',
      page: this.page,
      seq: before,
      clock: rounded(clock),
      frames,
      work
    });
  }

  dispose(): void {
    window.clearTimeout(this.timer ?? undefined);
    document.removeEventListener('visibilitychange', this.skip);
  }
}

/** To a tenth of a ms, which is what browsers tell. */
function rounded(ms: number): number {
  return Math.round(10 * ms) / 10;
}
