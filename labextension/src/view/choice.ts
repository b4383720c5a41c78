/** One answer: the reasoning folded above it with its own clock, the text, the tool calls. */
import { settings } from '../settings';
import { duration } from '../format';
import type { IChoice, ITool } from '../state';
import type { Answer } from './answer';
import { element, setText } from './elements';
import { Tools } from './tools';

/** What an answer shows at a moment. */
export interface IShown {
  text: string;
  reasoning: string;
  tools: readonly Partial<ITool>[];
  grown?: IChoice['grown'];
}

/** Draws one answer. Its parts are the caller's to place. */
export class ChoiceView {
  readonly reasoning = element('details', 'ts-Reasoning');
  readonly tools: Tools;
  readonly parts: HTMLElement[];
  private summary = element('summary', '');

  constructor(
    private say: (text: string) => string,
    readonly answer: Answer,
    private thoughts: Answer
  ) {
    this.tools = new Tools(say('tool call'));
    this.summary.textContent = say('Reasoning');
    this.reasoning.append(this.summary, thoughts.node);
    this.reasoning.hidden = true;
    this.reasoning.open = settings.reasoningOpen;
    this.parts = [this.reasoning, answer.node, this.tools.node];
  }

  /** Notes where the reader is in it, before anything of the page is changed. */
  look(): void {
    this.answer.look();
    this.thoughts.look();
  }

  /** Shows what there is of it; nothing follows when it is `done`. An answer without text takes no room when there is something else to read. */
  update(shown: IShown, done: boolean): void {
    const { text, reasoning, grown } = shown;
    this.answer.update(text, done, grown?.text);
    this.thoughts.update(reasoning, done || !!text, grown?.reasoning);
    this.reasoning.hidden = !shown.reasoning;
    this.tools.update(shown.tools);
    this.answer.node.hidden = !shown.text && (done || shown.tools.length > 0);
  }

  /** The clock of the reasoning: its first and last moment in ms since the request, null when not known. */
  clock(thought: [number, number] | null, over: boolean): void {
    if (!thought) {
      setText(this.summary, this.say('Reasoning'));
      return;
    }
    const held = (ms: number): string => duration(ms).replace(/ /g, '\u00a0');
    const took = held(thought[1] - thought[0]);
    setText(
      this.summary,
      `${over ? this.say('Thought for') : this.say('thinking for')} ${took} · ${this.say('began after')} ${held(thought[0])}`
    );
  }

  dispose(): void {
    this.answer.dispose();
    this.thoughts.dispose();
  }
}
