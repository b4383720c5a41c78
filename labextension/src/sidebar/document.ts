/** A transcript in a tab of its own: what was asked above what was answered, with its timeline and its replay. */
import { MainAreaWidget, ToolbarButton } from '@jupyterlab/apputils';
import { IRenderMimeRegistry, MimeModel } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import { copyIcon, runIcon } from '@jupyterlab/ui-components';
import { Panel, Widget } from '@lumino/widgets';

import { IRow, oneLine, rowOf } from '../rows';
import { MIME } from '../state';
import { element } from '../view/elements';
import { transcriptsIcon } from './icon';

/** The words of a tab. */
const TITLE = 28;

/** What was asked, as far as the document says. */
interface IAsked {
  prompt: string;
  system: string;
  notebook: string;
  note: string;
  tags: string[];
  options: Record<string, unknown>;
}

/** A tab with a transcript. */
export class TranscriptDocument extends MainAreaWidget<Panel> {
  constructor(
    readonly transcriptId: string,
    private renderers: IRenderMimeRegistry,
    private trans: TranslationBundle,
    rerun: (id: string) => void,
    copy: (id: string) => void
  ) {
    super({ content: new Panel() });
    this.id = `tokenstream-transcript-${transcriptId}`;
    this.addClass('ts-DocumentTab');
    this.content.addClass('ts-Document');
    this.title.icon = transcriptsIcon;
    this.title.closable = true;
    this.toolbar.addItem(
      'rerun',
      new ToolbarButton({
        icon: runIcon,
        label: trans.__('Insert rerun cell'),
        tooltip: trans.__(
          'Insert a cell that asks the same again below the active cell of the notebook; it is not run'
        ),
        onClick: () => rerun(transcriptId)
      })
    );
    this.toolbar.addItem(
      'copy',
      new ToolbarButton({
        icon: copyIcon,
        label: trans.__('Copy id'),
        tooltip: trans.__('Copy the id of this transcript'),
        onClick: () => copy(transcriptId)
      })
    );
  }

  /** Whether it was still streaming when it was drawn. */
  running = false;

  /** Draws what the server says; again when there is news. */
  draw(document: Record<string, unknown>): void {
    const about = objectOf(document.tokenstream);
    const asked = askedOf(objectOf(about.asked));
    const row = rowOf({ ...about, ...document, prompt: asked.prompt });
    this.running = row.outcome === 'running';
    const words = oneLine(asked.prompt) || row.model;
    this.title.label =
      words.length > TITLE ? `${words.slice(0, TITLE - 1)}…` : words;
    this.title.caption = this.trans.__('Transcript %1', this.transcriptId);
    for (const old of [...this.content.widgets]) {
      old.dispose();
    }
    const question = new Widget();
    question.addClass('ts-Asked');
    question.node.append(...this.question(asked, row));
    const answer = this.renderers.createRenderer(MIME);
    this.content.addWidget(question);
    this.content.addWidget(answer);
    void answer.renderModel(
      new MimeModel({ data: { [MIME]: document as never } })
    );
  }

  private question(asked: IAsked, row: IRow): HTMLElement[] {
    const { trans } = this;
    const parts: HTMLElement[] = [];
    const add = (label: string, words: string) => {
      if (words) {
        const block = element('section', 'ts-Asked-part');
        block.append(
          element('div', 'ts-Asked-label', label),
          element('div', 'ts-Asked-text', words)
        );
        parts.push(block);
      }
    };
    add(trans.__('System'), asked.system);
    add(trans.__('Prompt'), asked.prompt);
    add(trans.__('Note'), asked.note);
    const options = Object.entries(asked.options)
      .map(([name, value]) => `${name} ${shown(value)}`)
      .join(' · ');
    const facts = element('div', 'ts-Asked-facts');
    for (const fact of [
      row.createdAt?.toLocaleString() ?? '',
      asked.notebook,
      options,
      asked.tags.map(tag => `#${tag}`).join(' ')
    ]) {
      if (fact) {
        facts.append(element('span', 'ts-Asked-fact', fact));
      }
    }
    return [...parts, facts];
  }
}

function askedOf(from: Record<string, unknown>): IAsked {
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  return {
    prompt: text(from.prompt),
    system: text(from.system),
    notebook: text(from.notebook),
    note: text(from.note),
    tags: Array.isArray(from.tags) ? from.tags.map(text).filter(Boolean) : [],
    options: objectOf(from.options)
  };
}

function objectOf(value: unknown): Record<string, unknown> {
  return value && typeof value === 'object' && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
