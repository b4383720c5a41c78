/** The view of one run: header, reasoning, answer. Drawn at most once a frame. */
import type { TranslationBundle } from '@jupyterlab/translation';

import { StreamState, isOver } from '../state';
import { Answer } from './answer';
import { element, setText } from './elements';
import { Header } from './header';
import type { ISettled } from './settled';

const TICK_MS = 100;

/** Draws a stream while it lives and the transcript it leaves. */
export class StreamView {
  readonly node = element('section', 'ts-Stream');
  private header: Header;
  private reasoning = element('details', 'ts-Reasoning');
  private thoughts = new Answer();
  private answer = new Answer();
  private tools = element('div', 'ts-Tools');
  private problem = element('div', 'ts-Problem');
  private state: StreamState | null = null;
  private frame: number | null = null;
  private ticking: number | null = null;

  constructor(
    private trans: TranslationBundle | null,
    stop: () => void
  ) {
    this.header = new Header(trans, stop);
    this.node.setAttribute('role', 'region');
    this.reasoning.append(
      element('summary', '', this.say('Reasoning')),
      this.thoughts.node
    );
    this.reasoning.hidden = this.tools.hidden = this.problem.hidden = true;
    this.node.append(
      this.header.node,
      this.reasoning,
      this.answer.node,
      this.tools,
      this.problem,
      this.header.announcer
    );
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
          this.header.live(this.state, performance.now());
        }
      }, TICK_MS);
    }
  }

  /** What was saved of a stream that this page has no connection to. */
  show(saved: Record<string, unknown>): void {
    this.name(String((saved.model as string | undefined) ?? ''));
    this.texts(
      String((saved.text as string | undefined) ?? ''),
      String((saved.reasoning as string | undefined) ?? '')
    );
    this.header.disconnected(String((saved.model as string | undefined) ?? ''));
    this.node.dataset.state = 'lost';
  }

  /** The transcript. */
  settle(transcript: ISettled): void {
    this.rest();
    this.state = null;
    this.name(transcript.model ?? '');
    this.texts(
      transcript.text || transcript.refusal || '',
      transcript.reasoning ?? ''
    );
    this.node.dataset.state = transcript.outcome ?? 'unknown';
    this.header.settled(transcript);
    this.drawTools(transcript);
    const message = transcript.error?.message ?? '';
    const note =
      transcript.outcome === 'truncated'
        ? transcript.about.diagnostics?.[0]
        : '';
    setText(this.problem, message || note || '');
    this.problem.hidden = !this.problem.textContent;
    this.answer.node.hidden = !transcript.text && !transcript.refusal;
  }

  dispose(): void {
    this.rest();
  }

  private draw(): void {
    const state = this.state;
    if (!state) {
      return;
    }
    this.name(state.model);
    this.node.dataset.state = state.status;
    this.texts(state.text, state.reasoning);
    this.header.live(state, performance.now());
    if (isOver(state) || state.status === 'lost') {
      this.rest();
    }
  }

  private texts(text: string, reasoning: string): void {
    this.answer.node.hidden = false;
    this.answer.update(text);
    this.thoughts.update(reasoning);
    this.reasoning.hidden = !reasoning;
  }

  private drawTools(transcript: ISettled): void {
    const calls = transcript.tool_calls ?? [];
    this.tools.replaceChildren(
      ...calls.map(call =>
        element(
          'div',
          'ts-Tool',
          `${call.name ?? '?'}(${call.arguments ?? ''})`
        )
      )
    );
    this.tools.hidden = calls.length === 0;
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
