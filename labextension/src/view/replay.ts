/** Replay from the file: a clock that the reader starts, speeds up and drags, and the bar it is driven by. */
import type { TranslationBundle } from '@jupyterlab/translation';

import { running } from '../format';
import { element, setText } from './elements';

export const SPEEDS = [1, 2, 4, 8, 16];
/** With reduced motion the picture moves in steps. */
const CALM_MS = 250;

/** Plays from 0 to `total` ms and tells where it is. */
export class Replay {
  readonly node = element('div', 'ts-Replay');
  private play = element('button', 'ts-Play');
  private scrub = element('input', 'ts-Scrub');
  private clock = element('span', 'ts-Clock');
  private speeds = element('span', 'ts-Speeds');
  private close = element('button', 'ts-Close');
  private total = 0;
  private position = 0;
  private speed = 1;
  private since: number | null = null;
  private timer: number | null = null;
  private byFrame = true;
  private opener: HTMLElement | null = null;

  constructor(
    private trans: TranslationBundle | null,
    private seek: (ms: number | null) => void
  ) {
    this.node.setAttribute('role', 'group');
    this.node.setAttribute('aria-label', this.say('Replay'));
    this.node.hidden = true;
    this.play.type = this.close.type = 'button';
    this.play.addEventListener('click', () =>
      this.isPlaying ? this.pause() : this.start()
    );
    this.scrub.type = 'range';
    this.scrub.min = '0';
    this.scrub.step = 'any';
    this.scrub.setAttribute('aria-label', this.say('Position'));
    // else JupyterLab takes the arrow keys to go from cell to cell
    this.scrub.dataset.lmSuppressShortcuts = 'true';
    this.scrub.addEventListener('input', () => {
      this.jump(Number(this.scrub.value));
    });
    this.scrub.addEventListener('keydown', event => this.step(event));
    this.speeds.setAttribute('role', 'group');
    this.speeds.setAttribute('aria-label', this.say('Speed'));
    for (const speed of SPEEDS) {
      const button = element('button', 'ts-Speed', `${speed}×`);
      button.type = 'button';
      button.addEventListener('click', () => this.accelerate(speed));
      this.speeds.append(button);
    }
    setText(this.close, this.say('End replay'));
    this.close.addEventListener('click', () => this.end());
    this.node.append(
      this.play,
      this.scrub,
      this.clock,
      this.speeds,
      this.close
    );
    this.accelerate(1);
  }

  get isOpen(): boolean {
    return !this.node.hidden;
  }

  /** Shows the bar and plays from the start; at the end the focus goes back to `opener`. */
  open(total: number, opener: HTMLElement): void {
    this.total = total;
    this.opener = opener;
    this.position = 0;
    this.scrub.max = String(total);
    this.node.hidden = false;
    this.play.focus({ preventScroll: true });
    this.start();
  }

  /** Back to the settled view. */
  end(): void {
    if (this.isOpen) {
      const hadFocus = this.node.contains(document.activeElement);
      this.halt();
      this.node.hidden = true;
      this.seek(null);
      if (hadFocus) {
        this.opener?.focus({ preventScroll: true });
      }
    }
  }

  dispose(): void {
    this.halt();
  }

  private get isPlaying(): boolean {
    return this.since !== null;
  }

  private start(): void {
    if (this.position >= this.total) {
      this.position = 0;
    }
    this.since = performance.now();
    const { matchMedia } = window;
    const calm = '(prefers-reduced-motion: reduce)';
    this.byFrame = !matchMedia?.call(window, calm).matches;
    this.schedule();
    this.draw();
  }

  private pause(): void {
    this.halt();
    this.draw();
  }

  private halt(): void {
    this.since = null;
    if (this.timer !== null) {
      if (this.byFrame) {
        cancelAnimationFrame(this.timer);
      } else {
        window.clearTimeout(this.timer);
      }
      this.timer = null;
    }
  }

  private schedule(): void {
    const next = (): void => {
      this.timer = null;
      this.advance();
    };
    this.timer = this.byFrame
      ? requestAnimationFrame(next)
      : window.setTimeout(next, CALM_MS);
  }

  private advance(): void {
    const now = performance.now();
    this.position += (now - (this.since ?? now)) * this.speed;
    this.since = now;
    if (this.position >= this.total) {
      this.end();
      return;
    }
    this.draw();
    this.schedule();
  }

  private jump(ms: number): void {
    this.position = Math.max(0, Math.min(this.total, ms));
    if (this.isPlaying) {
      this.since = performance.now();
    }
    this.draw();
  }

  /** Arrow keys move by a fiftieth, page keys by a tenth: a range of any step would move by nothing. */
  private step(event: KeyboardEvent): void {
    const moves: Record<string, number> = {
      ArrowRight: 0.02,
      ArrowUp: 0.02,
      ArrowLeft: -0.02,
      ArrowDown: -0.02,
      PageUp: 0.1,
      PageDown: -0.1
    };
    const move = moves[event.key];
    if (move) {
      event.preventDefault();
      this.jump(this.position + move * this.total);
    }
  }

  private accelerate(speed: number): void {
    this.speed = speed;
    for (const button of this.speeds.children) {
      const pressed = button.textContent === `${speed}×`;
      button.setAttribute('aria-pressed', String(pressed));
    }
  }

  private draw(): void {
    const name = this.isPlaying ? this.say('Pause') : this.say('Play');
    if (this.play.getAttribute('aria-label') !== name) {
      this.play.setAttribute('aria-label', name);
      this.play.title = name;
      this.play.textContent = this.isPlaying ? '❚❚' : '▶';
    }
    this.scrub.value = String(this.position);
    const words = `${running(this.position)} ${this.say('of')} ${running(this.total)}`;
    this.scrub.setAttribute('aria-valuetext', words);
    setText(this.clock, words);
    this.seek(this.position);
  }

  private say(text: string): string {
    return this.trans ? this.trans.__(text) : text;
  }
}
