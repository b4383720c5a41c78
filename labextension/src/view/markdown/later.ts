/** Work that may wait, done a few milliseconds at a time between frames. */

const SLICE_MS = 4;

/** A queue of jobs, in order. */
export class Later {
  private jobs: (() => void | Promise<void>)[] = [];
  private running = false;

  add(job: () => void | Promise<void>): void {
    this.jobs.push(job);
    if (!this.running) {
      this.running = true;
      soon(() => void this.run());
    }
  }

  clear(): void {
    this.jobs = [];
  }

  private async run(): Promise<void> {
    const until = performance.now() + SLICE_MS;
    while (this.jobs.length && performance.now() < until) {
      const job = this.jobs.shift()!;
      try {
        await job();
      } catch {
        // what it would have made is left as it was: text
      }
    }
    if (this.jobs.length) {
      soon(() => void this.run());
    } else {
      this.running = false;
    }
  }
}

function soon(work: () => void): void {
  if (typeof requestIdleCallback === 'function') {
    requestIdleCallback(work, { timeout: 200 });
  } else {
    window.setTimeout(work, 16);
  }
}
