/** The view of one run: header, timeline, figures, and its answer or answers. Drawn at most once a frame. */
import type { TranslationBundle } from '@jupyterlab/translation';

import { OUTCOMES, StreamState, isOver } from '../state';
import { Answer, Format, formatOf } from './answer';
import { ChoiceView, IShown } from './choice';
import { element, setText } from './elements';
import { Header } from './header';
import { Panel } from './panel';
import { Replay } from './replay';
import { ICall, ISettled, ISettledChoice, answersOf } from './settled';
import { Timeline } from './timeline';
import { ITimeline, Strands, countAt, readTimeline } from './timeline-data';
import { Tinted } from './tint';
import { WirePanel } from './wire';

const TICK_MS = 100;
/** The clock and the timeline move on at most so often while text comes: no eye needs more, and the text is drawn at once. */
const CLOCKS_MS = 50;
/** A pause this long, or half as long as the run bears, is told in words, with what ends it. */
const PAUSE_MS = 5000;

/** An option of the cell in a sentence. */
const OPTION = /(?<![\w-])(--[a-z][a-z-]{1,30})/;
const MOST_PARTS = 20;

/** Draws a stream while it lives and the transcript it leaves. */
export class StreamView {
  readonly node = element('section', 'ts-Stream');
  readonly timeline: Timeline;
  /** Called after a live state was drawn, or the clock moved on. */
  drawn: (() => void) | null = null;
  /** Called in the frame that drew a live state: its `seq`, and how many ms it took. */
  drew: ((seq: number, work: number) => void) | null = null;
  private header: Header;
  private replay: Replay;
  private panel: Panel;
  private wire: WirePanel;
  private answers: ChoiceView[] = [];
  private heads: HTMLElement[] = [];
  private columns = element('div', 'ts-Choices');
  private problem = element('div', 'ts-Problem');
  /** Where the figures will be, so that the text does not move when they come. */
  private room = element('div', 'ts-PanelRoom');
  private tinted: Tinted[] = [];
  private state: StreamState | null = null;
  private transcript: ISettled | null = null;
  private line: ITimeline | null = null;
  private strands: Strands | null = null;
  private format: Format = 'markdown';
  private frame: number | null = null;
  private ticking: number | null = null;
  private clocked = -Infinity;
  private clockedAs = '';

  /** `inColumns`: replayed together with others, by whoever holds this view. */
  constructor(
    private trans: TranslationBundle | null,
    stop: () => void,
    private makeAnswer: () => Answer = () => new Answer(),
    private inColumns = false
  ) {
    this.header = new Header(trans, stop, opener => {
      this.replay.open(this.timeline.total, opener);
    });
    this.timeline = new Timeline(trans);
    this.replay = new Replay(trans, ms => this.seek(ms));
    this.panel = new Panel(trans, on => this.tint(on));
    this.wire = new WirePanel(trans);
    this.node.setAttribute('role', 'region');
    this.problem.hidden = this.room.hidden = true;
    this.node.append(
      this.header.node,
      this.timeline.node,
      this.replay.node,
      this.panel.node,
      this.wire.node,
      this.room,
      this.problem,
      this.header.announcer
    );
    this.open();
  }

  /** A live state; drawn with the next frame. */
  update(state: StreamState): void {
    this.state = state;
    if (this.frame === null) {
      this.frame = requestAnimationFrame(() => {
        this.frame = null;
        this.draw();
      });
    }
    if (this.ticking === null && !isOver(state) && state.status !== 'lost') {
      this.ticking = window.setInterval(() => {
        if (this.state) {
          this.clocks(this.state);
        }
      }, TICK_MS);
    }
  }

  /** What was saved of a stream that this page has no connection to. */
  show(saved: Record<string, unknown>): void {
    this.transcript = null;
    const model = textOf(saved.model);
    // a column may be over while the others go on
    const outcome = textOf(saved.outcome);
    const known = OUTCOMES.includes(outcome) ? outcome : '';
    this.name(model);
    this.drawAs(saved.format);
    this.texts(
      [{ text: saved.text, reasoning: saved.reasoning } as ISettledChoice],
      !!known
    );
    this.timeline.settled(null, null);
    this.panel.hide();
    this.wire.hide();
    this.room.hidden = true;
    this.tellTrouble(known && textOf(saved.problem), known);
    this.header.disconnected(model, known);
    this.node.dataset.state = known || 'lost';
  }

  /** The transcript. */
  settle(transcript: ISettled): void {
    if (this.amend(transcript)) {
      return;
    }
    this.rest();
    this.replay.end();
    this.panel.untint();
    this.state = null;
    this.transcript = transcript;
    this.line = readTimeline(transcript.about);
    this.strands = this.line && new Strands(transcript, this.line);
    this.name(transcript.model ?? '');
    this.drawAs(transcript.format);
    this.timeline.settled(this.line, this.strands);
    this.panel.update(transcript, this.line);
    this.wire.update(transcript.about.wire);
    this.room.hidden = true;
    this.drawSettled(transcript);
  }

  /**
   * Takes a transcript that says nothing new but how fast it was displayed: whoever plays it again or reads it tinted is
   * not disturbed. Returns whether it is one.
   */
  amend(transcript: ISettled): boolean {
    if (
      this.state ||
      !this.transcript ||
      !isSameBut(this.transcript, transcript)
    ) {
      return false;
    }
    this.transcript = transcript;
    this.panel.update(transcript, this.line);
    return true;
  }

  /** The view as it was at a moment of the run, in ms; null for the end. */
  seek(ms: number | null): void {
    const { transcript, line, strands } = this;
    if (!transcript || !line || !strands) {
      return;
    }
    if (ms === null || (this.inColumns && ms >= line.total)) {
      this.timeline.playhead(null);
      this.hold(false);
      this.drawSettled(transcript);
      return;
    }
    this.panel.untint();
    this.hold(true);
    const count = countAt(line.at, ms);
    const answers = answersOf(transcript).map((answer): ISettledChoice => {
      const index = answer.index ?? 0;
      const until = (channel: string): string =>
        strands.until(index, channel, count);
      return {
        ...answer,
        text: until('text'),
        refusal: until('refusal'),
        reasoning: until('reasoning'),
        tool_calls: callsUntil(answer.tool_calls ?? [], until('tool')),
        finish_reason: null
      };
    });
    this.texts(answers, false);
    this.problem.hidden = true;
    this.node.dataset.state = count ? 'streaming' : 'waiting';
    this.header.replaying(ms, count, line);
    this.timeline.playhead(ms);
  }

  dispose(): void {
    this.rest();
    this.replay.dispose();
    this.tint(false);
    this.answers.forEach(answer => answer.dispose());
  }

  private draw(): void {
    const state = this.state;
    if (!state) {
      return;
    }
    const began = performance.now();
    // what is written last makes the page lay itself out, once for all of it
    this.answers.forEach(answer => answer.look());
    this.name(state.model);
    this.node.dataset.state = state.status;
    const over = isOver(state) || state.status === 'lost';
    const isNews = state.status !== this.clockedAs;
    if (over || isNews || performance.now() - this.clocked >= CLOCKS_MS) {
      this.clocks(state);
    }
    this.drawAs(state.format);
    this.ensure(1 + state.choices.length);
    [{ ...state, index: 0 }, ...state.choices].forEach((choice, i) => {
      this.answers[i].update(choice, over);
      this.head(i, choice.index, null);
    });
    this.answers[0].clock(state.thought, over || !!state.text);
    if (over) {
      this.rest();
    }
    this.drew?.(state.seq, performance.now() - began);
  }

  private clocks(state: StreamState): void {
    const now = performance.now();
    this.clocked = now;
    this.clockedAs = state.status;
    this.header.live(state, now);
    this.timeline.live(state, now);
    this.room.hidden = this.timeline.node.hidden;
    this.tellTrouble(
      isOver(state) ? state.problem : this.pause(state, now),
      state.status
    );
    this.drawn?.();
  }

  private drawSettled(transcript: ISettled): void {
    this.node.dataset.state = transcript.outcome ?? 'unknown';
    this.texts(answersOf(transcript), true);
    this.header.settled(transcript, !!this.line && !this.inColumns);
    const message = transcript.error?.message ?? '';
    const note =
      transcript.outcome === 'truncated'
        ? transcript.about.diagnostics?.[0]
        : '';
    this.tellTrouble(message || note || '', transcript.outcome ?? '');
  }

  /** What is wrong, or may be; nothing hides the line. */
  private tellTrouble(words: string, status: string): void {
    if (this.problem.textContent !== words) {
      const line = element('span', '');
      const parts = words.split(OPTION, MOST_PARTS);
      const rest = words.slice(parts.join('').length);
      line.append(
        ...parts.map((part, i) =>
          i % 2 ? element('span', 'ts-Option', part) : part
        ),
        rest
      );
      this.problem.replaceChildren(line);
    }
    this.problem.hidden = !words;
    this.problem.dataset.outcome = status;
  }

  /** That nothing comes, how long that is borne, and the option that says so. */
  private pause(state: StreamState, now: number): string {
    const { status, moved, timeout, idle } = state;
    const waits = status === 'waiting' || status === 'prefill';
    const since = moved === null ? null : now - moved;
    const quiet = waits ? since : this.timeline.quiet;
    const borne = waits ? timeout : idle;
    if (!borne || quiet === null || quiet < Math.min(PAUSE_MS, borne / 2)) {
      return '';
    }
    const what = waits ? this.say('no token for') : this.say('no progress for');
    const option = waits ? '--timeout' : '--idle-timeout';
    return `${what} ${whole(quiet)} · ${this.say('given up after')} ${whole(borne)} (${option})`;
  }

  private texts(answers: ISettledChoice[], over: boolean): void {
    this.ensure(answers.length);
    answers.forEach((answer, i) => {
      const shown: IShown = {
        text: textOf(answer.text) || textOf(answer.refusal),
        reasoning: textOf(answer.reasoning),
        tools: (answer.tool_calls ?? []).map(call => ({
          name: call?.name ?? '?',
          arguments: call?.arguments ?? ''
        }))
      };
      const view = this.answers[i];
      view.update(shown, over);
      view.clock(this.thought(answer.index ?? 0, shown), over || !!shown.text);
      this.head(i, answer.index ?? i, answer.finish_reason ?? null);
    });
  }

  /** The first and last moment of what is shown of the reasoning of an answer. */
  private thought(index: number, shown: IShown): [number, number] | null {
    const strand = this.strands?.of(index, 'reasoning');
    if (!strand?.pieces.length || !this.line || !shown.reasoning) {
      return null;
    }
    const { at } = this.line;
    let last = strand.ends.findIndex(end => end >= shown.reasoning.length);
    last = last < 0 ? strand.pieces.length - 1 : last;
    return [at[strand.pieces[0]], at[strand.pieces[last]]];
  }

  /** Keeps the answers as tall as they are while they are played again. */
  private hold(on: boolean): void {
    for (const { answer } of this.answers) {
      const { style } = answer.node;
      if (on && !style.minHeight) {
        style.minHeight = `${answer.node.offsetHeight}px`;
      } else if (!on) {
        style.minHeight = '';
      }
    }
  }

  private tint(on: boolean): void {
    this.tinted.forEach(each => {
      each.dispose();
      each.node.remove();
    });
    this.tinted = [];
    const { transcript, line, strands } = this;
    if (on && transcript && line && strands) {
      answersOf(transcript).forEach((answer, i) => {
        const index = answer.index ?? 0;
        const channel = answer.text ? 'text' : 'refusal';
        const tinted = new Tinted(
          line,
          strands.of(index, channel),
          transcript.about.logprobs?.[i],
          this.panel.readout,
          text => this.say(text)
        );
        this.answers[i].answer.node.after(tinted.node);
        this.tinted.push(tinted);
      });
    }
    for (const { answer } of this.answers) {
      answer.node.classList.toggle('ts-mod-behind', on);
    }
  }

  /** Room for so many answers: one stands alone, several in columns. */
  private ensure(count: number): void {
    while (this.answers.length < count) {
      this.open();
    }
    while (this.answers.length > Math.max(1, count)) {
      const gone = this.answers.pop();
      gone?.parts.forEach(part => part.remove());
      gone?.dispose();
    }
    if (count > 1 && !this.columns.parentElement) {
      this.problem.before(this.columns);
    }
    if (!this.columns.parentElement) {
      return;
    }
    while (this.heads.length > this.answers.length) {
      this.heads.pop()?.parentElement?.remove();
    }
    for (let i = this.heads.length; i < this.answers.length; i++) {
      const column = element('div', 'ts-Choice');
      const head = element('div', 'ts-ChoiceHead');
      head.append(element('span', 'ts-Value'), ' ', element('span', 'ts-Name'));
      column.append(head, ...this.answers[i].parts);
      this.columns.append(column);
      this.heads.push(head);
    }
  }

  private open(): void {
    const view = new ChoiceView(
      text => this.say(text),
      this.makeAnswer(),
      this.makeAnswer()
    );
    view.answer.format = this.format;
    this.answers.push(view);
    if (this.answers.length === 1) {
      view.parts.forEach(part => this.problem.before(part));
    }
  }

  /** How the answers are drawn: `--format`. */
  private drawAs(format: unknown): void {
    this.format = formatOf(format);
    for (const { answer } of this.answers) {
      answer.format = this.format;
    }
  }

  private head(at: number, index: number, finish: string | null): void {
    const head = this.heads[at];
    if (head) {
      setText(
        head.firstElementChild as HTMLElement,
        `${this.say('choice')} ${index + 1}`
      );
      setText(
        head.lastElementChild as HTMLElement,
        finish ? `· ${this.say('finish reason')} ${finish}` : ''
      );
    }
  }

  private name(model: string): void {
    const label = `${this.say('Answer of')} ${model}`;
    if (this.node.getAttribute('aria-label') !== label) {
      this.node.setAttribute('aria-label', label);
    }
  }

  private rest(): void {
    if (this.frame !== null) {
      cancelAnimationFrame(this.frame);
      this.frame = null;
    }
    if (this.ticking !== null) {
      window.clearInterval(this.ticking);
      this.ticking = null;
    }
  }

  private say(text: string): string {
    return this.trans ? this.trans.__(text) : text;
  }
}

/** Seconds that do not flicker, held together with their unit. */
function whole(ms: number): string {
  return `${ms < 2000 ? Math.floor(ms / 100) / 10 : Math.floor(ms / 1000)}\u00a0s`;
}

/** The calls as far as their arguments had come, one after the other. */
function callsUntil(calls: ICall[], come: string): ICall[] {
  const shown: ICall[] = [];
  let offset = 0;
  for (const call of calls) {
    const whole = textOf(call?.arguments);
    if (offset >= come.length) {
      break;
    }
    const part = come.slice(offset, offset + whole.length);
    shown.push({ ...call, arguments: part });
    offset += whole.length;
  }
  return shown;
}

/** Whether two transcripts are of the same run and differ in nothing but the figures of its display. */
function isSameBut(before: ISettled, after: ISettled): boolean {
  const rest = (key: string, value: unknown): unknown =>
    key === 'displayed_us' ? undefined : value;
  return (
    !!after.about.id &&
    before.about.id === after.about.id &&
    JSON.stringify(before, rest) === JSON.stringify(after, rest)
  );
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
