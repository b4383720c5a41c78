/** Commands of the palette and the keyboard: stop, open and copy the stream of the cell the reader is in. */
import type { JupyterFrontEnd } from '@jupyterlab/application';
import {
  Clipboard,
  ICommandPalette,
  MainAreaWidget
} from '@jupyterlab/apputils';
import type { INotebookTracker } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';

import { IStream, streams } from './registry';
import { MIME, isOver } from './state';

/** The ids of the commands. */
export const CommandIDs = {
  stop: 'tokenstream:stop',
  stopAll: 'tokenstream:stop-all',
  open: 'tokenstream:open-transcript',
  copy: 'tokenstream:copy-markdown'
} as const;

interface IShown {
  status?: string;
  model?: string;
  model_id?: string;
  text?: string;
  refusal?: string;
  columns?: IShown[];
}

interface IOutput {
  data: Record<string, unknown>;
  metadata: Record<string, unknown>;
  shown: IShown;
}

/** The transcript in the outputs of the cell the reader is in, if there is one. */
function current(notebooks: INotebookTracker): IOutput | null {
  const model = notebooks.activeCell?.model as unknown as
    | { outputs?: { length: number; get(i: number): { toJSON(): unknown } } }
    | undefined;
  for (let index = 0; index < (model?.outputs?.length ?? 0); index++) {
    const output = model!.outputs!.get(index).toJSON() as Partial<IOutput>;
    const shown = output.data?.[MIME];
    if (shown && typeof shown === 'object') {
      return {
        data: output.data!,
        metadata: output.metadata ?? {},
        shown: shown
      };
    }
  }
  return null;
}

/** The streams an output shows that are still in this page. */
function live(output: IOutput | null): IStream[] {
  const shown = output ? [output.shown, ...(output.shown.columns ?? [])] : [];
  return shown
    .map(one => streams.get(one.model_id ?? ''))
    .filter(stream => stream !== undefined);
}

/** What was said, as the model wrote it: Markdown, a heading for each where there are several. */
function written(output: IOutput): string {
  const said = (one: IShown) =>
    streams.get(one.model_id ?? '')?.state.text ||
    one.text ||
    one.refusal ||
    '';
  const columns = output.shown.columns;
  return columns
    ? columns.map(one => `## ${one.model ?? ''}\n\n${said(one)}\n`).join('\n')
    : said(output.shown);
}

/** Adds the commands, and their entries in the palette. */
export function addCommands(
  app: JupyterFrontEnd,
  notebooks: INotebookTracker,
  palette: ICommandPalette | null,
  trans: TranslationBundle,
  draw: (
    data: Record<string, unknown>,
    metadata: Record<string, unknown>
  ) => MainAreaWidget
): void {
  const { commands } = app;
  const running = () =>
    live(current(notebooks)).filter(stream => !isOver(stream.state));
  const all = () => [...streams.values()].filter(s => !isOver(s.state));

  commands.addCommand(CommandIDs.stop, {
    label: trans.__('Stop this stream'),
    caption: trans.__('Stop the answer that is streaming into the active cell'),
    isEnabled: () => running().length > 0,
    execute: () => running().forEach(stream => stream.stop())
  });
  commands.addCommand(CommandIDs.stopAll, {
    label: trans.__('Stop all streams'),
    caption: trans.__('Stop every answer that is streaming in this page'),
    isEnabled: () => all().length > 0,
    execute: () => all().forEach(stream => stream.stop())
  });
  commands.addCommand(CommandIDs.open, {
    label: trans.__('Open transcript'),
    caption: trans.__(
      'Open the transcript of the active cell in a tab of its own'
    ),
    isEnabled: () => current(notebooks) !== null,
    execute: () => {
      const output = current(notebooks);
      if (output) {
        const widget = draw(output.data, output.metadata);
        widget.title.label = trans.__(
          'Transcript: %1',
          output.shown.model ?? ''
        );
        app.shell.add(widget, 'main', { mode: 'split-right' });
      }
    }
  });
  commands.addCommand(CommandIDs.copy, {
    label: trans.__('Copy as Markdown'),
    caption: trans.__(
      'Copy the answer in the active cell as the model wrote it'
    ),
    isEnabled: () => current(notebooks) !== null,
    execute: () => {
      const output = current(notebooks);
      if (output) {
        Clipboard.copyToSystem(written(output));
      }
    }
  });

  const category = trans.__('Streamed answers');
  for (const command of Object.values(CommandIDs)) {
    palette?.addItem({ command, category });
  }
  const changed = () => commands.notifyCommandChanged();
  notebooks.activeCellChanged.connect(changed);
}
