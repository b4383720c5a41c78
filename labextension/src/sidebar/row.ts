/** One row of the list: how it ended and when, what was asked and answered, by which model and how fast. */
import type { TranslationBundle } from '@jupyterlab/translation';

import {
  IRow,
  answerOf,
  oneLine,
  outcomeOf,
  rateOf,
  symbolOf,
  ttftOf,
  whenOf
} from '../rows';
import { element, setText } from '../view/elements';

/** Draws a row as an option of a listbox. */
export class RowView {
  readonly node = element('div', 'ts-Kept');
  private symbol = element('span', 'ts-Kept-symbol');
  private outcome = element('span', 'ts-Kept-outcome');
  private when = element('time', 'ts-Kept-when');
  private prompt = element('div', 'ts-Kept-prompt');
  private answer = element('div', 'ts-Kept-answer');
  private model = element('span', 'ts-Kept-model');
  private figures = element('span', 'ts-Kept-figures');

  constructor(
    id: string,
    private trans: TranslationBundle
  ) {
    this.node.id = `ts-kept-${id}`;
    this.node.dataset.id = id;
    this.node.setAttribute('role', 'option');
    this.symbol.setAttribute('aria-hidden', 'true');
    const head = element('div', 'ts-Kept-head');
    head.append(this.symbol, this.outcome, this.when);
    const foot = element('div', 'ts-Kept-foot');
    foot.append(this.model, this.figures);
    this.node.append(head, this.prompt, this.answer, foot);
  }

  /** Shows what is known of it now. */
  update(row: IRow, selected: boolean, now: Date): void {
    const { trans } = this;
    const outcome = outcomeOf(row, trans);
    const when = whenOf(row.createdAt, now);
    const prompt = oneLine(row.prompt) || trans.__('(no text)');
    const answer = answerOf(row);
    const ttft = ttftOf(row);
    const rate = rateOf(row, trans);
    this.node.dataset.state = row.outcome;
    this.node.setAttribute('aria-selected', String(selected));
    setText(this.symbol, symbolOf(row));
    setText(this.outcome, outcome);
    setText(this.when, when);
    this.when.dateTime = row.createdAt?.toISOString() ?? '';
    this.when.title = row.createdAt?.toLocaleString() ?? '';
    setText(this.prompt, prompt);
    setText(this.answer, answer);
    this.answer.hidden = !answer;
    setText(this.model, row.model);
    this.model.title = row.model;
    setText(
      this.figures,
      [ttft && trans.__('TTFT %1', ttft), rate].filter(Boolean).join(' · ')
    );
    // read as a sentence, in the order in which a reader looks
    const said = [
      `${outcome}, ${when}`,
      trans.__('Prompt: %1', prompt),
      answer && trans.__('Answer: %1', answer),
      trans.__('Model: %1', row.model),
      ttft && trans.__('first token after %1', ttft),
      rate
    ];
    this.node.setAttribute('aria-label', said.filter(Boolean).join('. '));
  }
}
