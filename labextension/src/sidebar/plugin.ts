/** Wiring of the side panel: where it stands, what its actions do, and when it looks for news. */
import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import {
  Clipboard,
  Dialog,
  ICommandPalette,
  Notification,
  WidgetTracker,
  showDialog
} from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import { opening } from '../opening';
import { IRow, oneLine } from '../rows';
import { element } from '../view/elements';
import { insertBelow } from './cells';
import { TranscriptDocument } from './document';
import { followRuns } from './news';
import { TranscriptPanel } from './panel';
import { Refusal, libraryOf } from './requests';

const RANK = 450;
const WORDS = 80;

/** The ids of the commands. */
export const LibraryCommands = {
  show: 'tokenstream:show-transcripts',
  open: 'tokenstream:open-kept',
  rerun: 'tokenstream:insert-rerun',
  copy: 'tokenstream:copy-id',
  remove: 'tokenstream:delete-transcript'
} as const;

const library: JupyterFrontEndPlugin<void> = {
  id: 'tokenstream-magic:library',
  description: 'A side panel with the transcripts of all runs.',
  autoStart: true,
  requires: [IRenderMimeRegistry],
  optional: [INotebookTracker, ILayoutRestorer, ICommandPalette, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    renderers: IRenderMimeRegistry,
    notebooks: INotebookTracker | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tokenstream-magic');
    const store = libraryOf(app.serviceManager.serverSettings);
    const { commands, shell } = app;
    const opened = new WidgetTracker<TranscriptDocument>({
      namespace: 'tokenstream-transcripts'
    });

    const refused = (what: string) => (error: unknown) => {
      const { message, hint, missing } =
        error instanceof Refusal ? error : new Refusal(String(error));
      const why = missing
        ? trans.__('The server extension of tokenstream-magic is not loaded.')
        : `${message} ${hint}`.trim() ||
          trans.__('The Jupyter server does not answer.');
      Notification.error(`${what} ${why}`, { autoClose: 8000 });
    };

    const find = (id: string) =>
      opened.find(widget => widget.transcriptId === id);

    const open = async (id: string): Promise<void> => {
      const there = find(id);
      const document = await store.get(id);
      const widget =
        there ??
        new TranscriptDocument(
          id,
          renderers,
          trans,
          which => {
            void rerun(which);
          },
          copy
        );
      widget.draw(document);
      if (!there) {
        shell.add(widget, 'main');
        if (!widget.isAttached) {
          shell.add(widget, 'right'); // Notebook 7 has room for one document only
        }
        await opened.add(widget);
      }
      shell.activateById(widget.id);
    };

    const rerun = async (id: string): Promise<void> => {
      try {
        const { source, missing } = await store.cell(id);
        if (!insertBelow(notebooks, source)) {
          Notification.warning(
            trans.__(
              'Open a notebook that can be changed: the cell goes there.'
            ),
            { autoClose: 5000 }
          );
          return;
        }
        shell.activateById(notebooks!.currentWidget!.id);
        const lacks: Record<string, string> = {
          attachments: trans.__('its attachments (-a PATH)'),
          tools: trans.__('its tools (-T NAME)'),
          address: trans.__('the address of its server (--base-url URL)'),
          options: trans.__('some of its options'),
          messages: trans.__('the earlier messages')
        };
        if (missing.length) {
          Notification.warning(
            trans.__(
              'The cell asks the same but for what a transcript cannot give back: %1. Add that before you run it.',
              missing.map(name => lacks[name] ?? name).join(', ')
            ),
            { autoClose: 10_000 }
          );
        }
      } catch (error) {
        refused(trans.__('No cell was inserted.'))(error);
      }
    };

    const copy = (id: string) => {
      Clipboard.copyToSystem(id);
      Notification.success(trans.__('Copied %1', id), { autoClose: 2000 });
    };

    const remove = async (row: IRow): Promise<void> => {
      const body = new Widget();
      const words = oneLine(row.prompt) || trans.__('(no text)');
      body.addClass('ts-Delete');
      body.node.append(
        element('p', 'ts-Delete-words', words.slice(0, WORDS)),
        element('p', 'ts-Delete-model', row.model),
        element(
          'p',
          '',
          trans.__(
            'It is removed from the database for good. What stands in a notebook stays there.'
          )
        )
      );
      const answer = await showDialog({
        title: trans.__('Delete this transcript?'),
        body,
        buttons: [
          Dialog.cancelButton({ label: trans.__('Cancel') }),
          Dialog.warnButton({ label: trans.__('Delete') })
        ],
        defaultButton: 0
      });
      if (answer.button.accept) {
        try {
          await panel.list.remove(row.id);
          find(row.id)?.dispose();
        } catch (error) {
          refused(trans.__('It was not deleted.'))(error);
        }
        panel.focusList();
      }
    };

    const show = (id: string) =>
      open(id).catch(refused(trans.__('It could not be opened.')));

    const panel = new TranscriptPanel(
      store,
      trans,
      row => void show(row.id),
      [
        {
          label: trans.__('Open'),
          title: trans.__('Open the transcript in a tab (Enter)'),
          run: row => void show(row.id)
        },
        {
          label: trans.__('Insert rerun cell'),
          title: trans.__(
            'Insert a cell that asks the same again below the active cell; it is not run'
          ),
          run: row => void rerun(row.id)
        },
        {
          label: trans.__('Copy id'),
          title: trans.__('Copy the id of the transcript'),
          run: row => copy(row.id)
        },
        {
          label: trans.__('Delete'),
          title: trans.__('Delete the transcript for good (Delete)'),
          run: row => void remove(row)
        }
      ],
      row => void remove(row)
    );
    try {
      shell.add(panel, 'left', { rank: RANK });
    } catch {
      panel.dispose(); // a shell without a left area
      return;
    }
    opening.open = open;
    restorer?.add(panel, panel.id);

    const chosen = () => panel.list.current;
    const add = (
      id: string,
      label: string,
      act: (row: IRow) => void,
      enabled: () => boolean = () => chosen() !== null
    ) =>
      commands.addCommand(id, {
        label,
        isEnabled: enabled,
        execute: () => {
          const row = chosen();
          if (row) {
            act(row);
          }
        }
      });
    commands.addCommand(LibraryCommands.show, {
      label: trans.__('Show transcripts'),
      caption: trans.__('Find, open and repeat the runs that were kept'),
      execute: () => shell.activateById(panel.id)
    });
    commands.addCommand(LibraryCommands.open, {
      label: trans.__('Open'),
      isEnabled: args => !!args.id || chosen() !== null,
      execute: args =>
        show(typeof args.id === 'string' ? args.id : (chosen()?.id ?? ''))
    });
    add(
      LibraryCommands.rerun,
      trans.__('Insert rerun cell'),
      row => void rerun(row.id),
      () => chosen() !== null && !!notebooks?.currentWidget
    );
    add(LibraryCommands.copy, trans.__('Copy id'), row => copy(row.id));
    add(LibraryCommands.remove, trans.__('Delete…'), row => void remove(row));
    const selector = '.ts-Library-list';
    [
      LibraryCommands.open,
      LibraryCommands.rerun,
      LibraryCommands.copy,
      LibraryCommands.remove
    ].forEach((command, rank) =>
      app.contextMenu.addItem({ command, selector, rank })
    );
    palette?.addItem({
      command: LibraryCommands.show,
      category: trans.__('Streamed answers')
    });

    const news = () => {
      panel.refresh();
      opened.forEach(widget => {
        if (widget.running) {
          store.get(widget.transcriptId).then(
            document => widget.draw(document),
            () => undefined // what is shown stays
          );
        }
      });
    };
    followRuns(news);
    window.addEventListener('focus', () => panel.refresh());

    void restorer?.restore(opened, {
      command: LibraryCommands.open,
      args: widget => ({ id: widget.transcriptId }),
      name: widget => widget.transcriptId
    });
  }
};

export default library;
