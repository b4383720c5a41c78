/**
 * The line above an answer: which model, what it is doing, the figures, and Stop. Two columns, so that Stop keeps
 * its place whatever the figures need.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import { duration, rate, running } from '../format';
import { StreamState, isOver } from '../state';
import { element, setText } from './elements';
import { type ISettled, readReplayed } from './settled';
import { type ITimeline, endOf } from './timeline-data';

const SYMBOLS: Record<string, string> = {
  complete: '✓',
  stopped: '■',
  truncated: '!',
  failed: '×',
  lost: '?'
};

interface IFigure {
  name: string;
  value: string;
  meaning: string;
}

/** Draws the header, live and settled, and announces changes of state to screen readers. */
export class Header {
  readonly node = element('header', 'ts-Header');
  readonly announcer = element('div', 'ts-Announcer');
  private model = element('span', 'ts-Model');
  private symbol = element('span', 'ts-Symbol');
  private words = element('span', 'ts-Words');
  private figures = element('span', 'ts-Figures');
  /** What a replay is one of. */
  private origin = element('div', 'ts-Origin');
  private progress = element('progress', 'ts-Progress');
  private button = element('button', 'ts-Stop');
  private again = element('button', 'ts-Again');
  private pressed = false;

  constructor(
    private trans: TranslationBundle | null,
    stop: () => void,
    replay: (opener: HTMLElement) => void
  ) {
    const status = element('span', 'ts-Status');
    this.symbol.setAttribute('aria-hidden', 'true');
    status.append(this.symbol, this.words);
    const line = element('div', 'ts-Line');
    line.append(this.model, status, this.figures, this.progress);
    this.progress.hidden = true;
    this.progress.setAttribute('aria-label', this.say('Fetching the model'));
    this.button.type = 'button';
    this.button.textContent = this.say('Stop');
    this.button.title = this.say(
      'Close the connection and keep what has arrived'
    );
    this.button.addEventListener('click', () => {
      if (this.pressed) {
        return;
      }
      this.pressed = true;
      // not `disabled`: that would throw the keyboard focus to the top of the page
      this.button.setAttribute('aria-disabled', 'true');
      setText(this.words, this.say('stopping…'));
      stop();
    });
    this.button.hidden = true;
    this.again.type = 'button';
    this.again.textContent = this.say('Replay');
    this.again.title = this.say('Play it again, as it came');
    this.again.addEventListener('click', () => replay(this.again));
    this.again.hidden = true;
    this.origin.hidden = true;
    this.node.append(line, this.button, this.again, this.origin);
    this.announcer.setAttribute('role', 'status');
    this.announcer.setAttribute('aria-live', 'polite');
  }

  /** A running stream; `now` is the page's clock in ms. */
  live(state: StreamState, now: number): void {
    this.button.hidden = state.status === 'lost' || isOver(state);
    this.again.hidden = true;
    this.node.dataset.state = state.status;
    setText(this.model, state.model);
    this.replayOf(state.replayed);
    setText(this.symbol, SYMBOLS[state.status] ?? '●');
    const passed = state.since === null ? 0 : now - state.since;
    const waited = isOver(state) ? (state.elapsed ?? passed) : passed;
    setText(this.words, this.liveWords(state, waited, now));
    this.progress.hidden = state.progress === null;
    if (state.progress) {
      this.progress.max = state.progress.total || 1;
      this.progress.value = state.progress.done;
    }
    this.draw(this.liveFigures(state, waited));
    this.announce(this.announcement(state));
  }

  /** A stream this page has no connection to; `outcome` when it was over before it was saved, and else empty. */
  disconnected(model: string, outcome: string): void {
    this.button.hidden = this.again.hidden = true;
    const state = outcome || 'lost';
    this.node.dataset.state = state;
    setText(this.model, model);
    this.replayOf(null);
    setText(this.symbol, SYMBOLS[state]);
    setText(
      this.words,
      outcome
        ? this.settledWords({ outcome, about: {} })
        : this.say('not connected: this is what was saved')
    );
    this.draw([]);
  }

  /** A finished transcript, `replayable` when its timeline is there. */
  settled(transcript: ISettled, replayable: boolean): void {
    const hadFocus =
      !this.button.hidden && this.node.contains(document.activeElement);
    this.button.hidden = true;
    this.again.hidden = !replayable;
    this.progress.hidden = true;
    const outcome = transcript.outcome ?? 'unknown';
    this.node.dataset.state = outcome;
    setText(this.model, transcript.model ?? '');
    this.replayOf(transcript.about.replayed);
    setText(this.symbol, SYMBOLS[outcome] ?? '·');
    setText(this.words, this.settledWords(transcript));
    this.draw(this.settledFigures(transcript));
    this.announce(this.settledWords(transcript));
    if (hadFocus) {
      // the button that had it is gone: leave the reader here instead of at the top of the page
      this.node.tabIndex = -1;
      this.node.focus({ preventScroll: true });
    }
  }

  /** A transcript as it was at `ms`, when `count` pieces had come. */
  replaying(ms: number, count: number, line: ITimeline): void {
    this.again.hidden = true;
    this.node.dataset.state = count ? 'streaming' : 'waiting';
    setText(this.symbol, '▸');
    setText(
      this.words,
      count
        ? this.say('replay')
        : this.say('replay: waiting for the first token')
    );
    const figures: IFigure[] = count ? [this.firstToken(line.at[0])] : [];
    figures.push(
      {
        name: this.say('chunks'),
        value: String(count),
        meaning: this.say('Pieces of the answer by then.')
      },
      {
        name: this.say('elapsed'),
        value: running(ms),
        meaning: this.say('Time since the request was sent.')
      }
    );
    this.draw(figures);
  }

  /** Whether this is a replay, of what and how. */
  private replayOf(said: unknown): void {
    const replayed = readReplayed(said);
    this.origin.hidden = !replayed;
    if (replayed) {
      const { of, as, speed, note } = replayed;
      const parts = [
        `${this.say('replay of')} ${of}`,
        as && `${this.say('as')} ${as}`,
        speed === 'instant' ? this.say('at once') : speed && `${speed}×`,
        note
      ];
      setText(this.origin, parts.filter(Boolean).join(' · '));
    }
  }

  private liveWords(state: StreamState, waited: number, now: number): string {
    if (
      state.status === 'stopping' ||
      (this.pressed && state.status !== 'lost' && !isOver(state))
    ) {
      return this.say('stopping…');
    }
    switch (state.status) {
      case 'fetching':
        return `${this.say('fetching the model')} ${state.progress?.text ?? ''}`;
      case 'queued':
        return this.say('waiting its turn');
      case 'starting':
        return this.say('starting the model…');
      case 'waiting':
      case 'prefill':
        return `${this.say('waiting for the first token')} ${running(waited)}`;
      case 'retrying':
        return `${this.say('the server is busy: trying again in')} ${running(
          Math.max(0, (state.retryAt ?? now) - now)
        ).replace(' ', '\u00a0')}`;
      case 'lost':
        return this.say('the kernel ended; this is what had arrived');
      default:
        return this.say(state.status);
    }
  }

  /** The state without what changes all the time: a screen reader says it once. */
  private announcement(state: StreamState): string {
    switch (state.status) {
      case 'waiting':
      case 'prefill':
        return this.say('waiting for the first token');
      case 'fetching':
        return this.say('fetching the model');
      case 'retrying':
        return this.say('the server is busy: trying again');
      default:
        return this.liveWords(state, 0, 0);
    }
  }

  private liveFigures(state: StreamState, waited: number): IFigure[] {
    if (state.ttft === null) {
      return [];
    }
    const figures = [this.firstToken(state.ttft)];
    figures.push({
      name: this.say('chunks'),
      value: String(state.chunks),
      meaning: this.say(
        'Pieces of the answer so far. How many tokens they are is known when the server reports its usage.'
      )
    });
    const streamed = (state.elapsed ?? 0) - state.ttft;
    if (state.chunks > 2 && streamed > 0) {
      figures.push({
        name: this.say('chunks/s'),
        value: rate(((state.chunks - 1) * 1000) / streamed),
        meaning: this.say('Pieces per second since the first.')
      });
    }
    figures.push({
      name: isOver(state) ? this.say('total') : this.say('elapsed'),
      value: running(waited),
      meaning: this.say('Time since the request was sent.')
    });
    return figures;
  }

  private settledWords(transcript: ISettled): string {
    const causes: Record<string, string> = {
      button: this.say('stopped by you'),
      interrupt: this.say('stopped by an interrupt'),
      api: this.say('stopped by a call'),
      'limit:time': this.say('stopped at its time limit'),
      'limit:tokens': this.say('stopped at its token limit')
    };
    switch (transcript.outcome) {
      case 'stopped':
        return causes[transcript.stop_cause ?? ''] ?? this.say('stopped');
      case 'truncated':
        return this.say('truncated: the answer is not whole');
      case 'complete':
        return transcript.finish_reason === 'length'
          ? this.say('complete, cut at max_tokens')
          : this.say('complete');
      default:
        return this.say(transcript.outcome ?? 'unknown');
    }
  }

  private settledFigures(transcript: ISettled): IFigure[] {
    const timing = transcript.about.timing ?? {};
    const tokens = transcript.about.usage?.output_tokens;
    const figures: IFigure[] = [];
    if (isNumber(timing.ttft_ms)) {
      figures.push(this.firstToken(timing.ttft_ms));
    }
    if (isNumber(tokens)) {
      figures.push({
        name: this.say('tokens'),
        value: String(tokens),
        meaning: this.say('Output tokens, as the server reports them.')
      });
    } else if (isNumber(timing.chunks) && timing.chunks) {
      figures.push({
        name: this.say('chunks'),
        value: String(timing.chunks),
        meaning: this.say(
          'Pieces of the answer. The server reported no token count, as happens when a stream is cut short.'
        )
      });
    }
    if (isNumber(timing.decode_tokens_per_second)) {
      figures.push({
        name: this.say('tokens/s'),
        value: rate(timing.decode_tokens_per_second),
        meaning: this.say('Tokens per second after the first.')
      });
    } else if (isNumber(timing.chunks_per_second)) {
      figures.push({
        name: this.say('chunks/s'),
        value: rate(timing.chunks_per_second),
        meaning: this.say('Pieces per second since the first.')
      });
    }
    const isWhole = transcript.outcome === 'complete';
    const total = isWhole ? timing.e2e_ms : endOf(transcript.about);
    // of a request that was refused, tried again perhaps, the last one's time says nothing
    const isRefused = transcript.outcome === 'failed' && !figures.length;
    if (isNumber(total) && !isRefused) {
      figures.push({
        name: this.say('total'),
        value: duration(total),
        meaning: isWhole
          ? this.say('From the request to the last piece of the answer.')
          : this.say('From the request to its end, silence included.')
      });
    }
    return figures;
  }

  private firstToken(ms: number): IFigure {
    return {
      name: this.say('first token'),
      value: duration(ms),
      meaning: this.say(
        'TTFT: from the first byte of the request to the first generated text.'
      )
    };
  }

  private draw(figures: IFigure[]): void {
    while (this.figures.children.length > figures.length) {
      this.figures.lastChild?.remove();
    }
    figures.forEach((figure, index) => {
      let node = this.figures.children[index] as HTMLElement | undefined;
      if (!node) {
        node = element('span', 'ts-Figure');
        node.append(
          element('span', 'ts-Value'),
          ' ',
          element('span', 'ts-Name')
        );
        this.figures.appendChild(node);
      }
      setText(node.children[0] as HTMLElement, figure.value);
      setText(node.children[1] as HTMLElement, figure.name);
      node.title = figure.meaning;
    });
  }

  private announce(words: string): void {
    setText(this.announcer, words);
  }

  private say(text: string): string {
    return this.trans ? this.trans.__(text) : text;
  }
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}
