/** Several runs side by side: a view each with its own Stop, one axis of time, one Stop and one replay for all. */
import type { TranslationBundle } from '@jupyterlab/translation';

import { StreamState, isOver } from '../state';
import type { Answer } from './answer';
import { element, setText } from './elements';
import { Replay } from './replay';
import type { ISettled } from './settled';
import { StreamView } from './stream';
import { step } from './timeline';
import { readTimeline } from './timeline-data';

/** Draws the columns of one output. */
export class ColumnsView {
  readonly node = element('div', 'ts-Columns');
  readonly views: StreamView[] = [];
  private words = element('span', 'ts-ColumnsWords');
  private stopAll = element('button', 'ts-Stop');
  private again = element('button', 'ts-Again');
  private replay: Replay;
  private grid = element('div', 'ts-ColumnsGrid');
  private states: (StreamState | null)[] = [];
  private total = 0;

  constructor(
    private trans: TranslationBundle | null,
    private stop: (index: number) => void,
    private makeAnswer?: () => Answer
  ) {
    this.replay = new Replay(trans, ms =>
      this.views.forEach(view => view.seek(ms))
    );
    this.stopAll.type = this.again.type = 'button';
    this.stopAll.textContent = this.say('Stop all');
    this.stopAll.title = this.say(
      'Close every connection and keep what has arrived'
    );
    this.stopAll.addEventListener('click', () =>
      this.views.forEach((_, index) => this.stop(index))
    );
    this.again.textContent = this.say('Replay');
    this.again.title = this.say('Play all of them again, as they came');
    this.again.addEventListener('click', () =>
      this.replay.open(this.total, this.again)
    );
    this.stopAll.hidden = this.again.hidden = true;
    const bar = element('div', 'ts-ColumnsBar');
    bar.append(this.words, this.stopAll, this.again);
    this.node.append(bar, this.replay.node, this.grid);
  }

  /** As many columns as there are runs. */
  ensure(count: number): void {
    while (this.views.length > count) {
      const gone = this.views.pop()!;
      gone.dispose();
      gone.node.remove();
    }
    while (this.views.length < count) {
      const index = this.views.length;
      const view = new StreamView(
        this.trans,
        () => this.stop(index),
        this.makeAnswer,
        true
      );
      view.drawn = () => this.rescale();
      this.views.push(view);
      this.grid.append(view.node);
    }
    this.states.length = count;
  }

  /** A live state of one column; null when this page has no connection to it. */
  update(index: number, state: StreamState | null): void {
    this.states[index] = state;
    if (state) {
      this.views[index].update(state);
    }
    this.again.hidden = true;
    this.stopAll.hidden = !this.states.some(
      each => each && !isOver(each) && each.status !== 'lost'
    );
    const counts = new Map<string, number>();
    for (const each of this.states) {
      const status = this.status(each);
      counts.set(status, (counts.get(status) ?? 0) + 1);
    }
    const parts = [...counts].map(([status, count]) => `${count} ${status}`);
    setText(this.words, parts.join(' · '));
  }

  /** What was saved of one column that this page has no connection to. */
  show(index: number, saved: Record<string, unknown>): void {
    this.views[index].show(saved);
    if (!this.states.some(Boolean)) {
      setText(this.words, this.count());
    }
  }

  /** The transcripts. */
  settle(transcripts: ISettled[]): void {
    const { views } = this;
    if (
      views.length === transcripts.length &&
      views.map((view, i) => view.amend(transcripts[i])).every(Boolean)
    ) {
      return;
    }
    this.replay.end();
    this.ensure(transcripts.length);
    this.states.fill(null);
    this.stopAll.hidden = true;
    transcripts.forEach((transcript, i) => this.views[i].settle(transcript));
    const lines = transcripts.map(({ about }) => readTimeline(about));
    this.total = Math.max(0, ...lines.map(line => line?.total ?? 0));
    this.views.forEach(({ timeline }) => timeline.share(this.total || null));
    this.again.hidden = !this.total;
    setText(this.words, this.count());
  }

  dispose(): void {
    this.replay.dispose();
    this.views.forEach(view => view.dispose());
  }

  private count(): string {
    const { length } = this.views;
    return `${length} ${length === 1 ? this.say('model') : this.say('models')}`;
  }

  private rescale(): void {
    const longest = Math.max(
      ...this.views.map(({ timeline }) => timeline.total)
    );
    this.views.forEach(({ timeline }) => timeline.share(step(longest)));
  }

  private status(state: StreamState | null): string {
    switch (state?.status) {
      case undefined:
        return this.say('not connected');
      case 'queued':
        return this.say('queued');
      case 'prefill':
        return this.say('waiting');
      case 'streaming':
        return this.say('answering');
      default:
        return this.say(state!.status);
    }
  }

  private say(text: string): string {
    return this.trans ? this.trans.__(text) : text;
  }
}
