/**
 * `%%stream` cells edit as prose. Their body is a prompt; read as Python, an apostrophe paints the rest of it red.
 * The cell's MIME type is never saved, and the notebook sets it again when its kernel changes, so it is watched.
 */
import type { Cell, ICellModel } from '@jupyterlab/cells';
import type { NotebookPanel } from '@jupyterlab/notebook';

import { settings, settingsChanged } from './settings';
import { services } from './view/markdown/services';

/** Markdown with maths, as JupyterLab's own Markdown cells. */
export const PROSE = 'text/x-ipythongfm';

/** Whether a cell's source is a prompt. */
export function isPrompt(source: string): boolean {
  return /^\s*%%stream(?![\w-])/.test(source);
}

/** Keeps the MIME type of every cell of a notebook in step with what the cell is. */
export function followProse(panel: NotebookPanel): void {
  const watched = new WeakSet<ICellModel>();
  const notebook = panel.content;

  const isProse = (model: ICellModel) =>
    settings.proseCells && isPrompt(model.sharedModel.getSource());
  const choose = (model: ICellModel) => {
    if (model.isDisposed || model.type !== 'code') {
      return;
    }
    const prose = isProse(model);
    if (prose && model.mimeType !== PROSE) {
      // an editor takes the language that is loaded last: the notebook's own must not come after ours
      const own = services.languages?.getLanguage(notebook.codeMimetype);
      void Promise.resolve(own).finally(() => {
        if (!model.isDisposed && isProse(model)) {
          model.mimeType = PROSE;
        }
      });
    } else if (!prose && model.mimeType === PROSE) {
      model.mimeType = notebook.codeMimetype;
    }
  };
  const watch = (cell: Cell) => {
    const model = cell.model;
    if (!watched.has(model)) {
      watched.add(model);
      model.contentChanged.connect(choose);
      model.mimeTypeChanged.connect(() => choose(model));
    }
    choose(model);
  };
  const all = () => notebook.widgets.forEach(watch);

  settingsChanged.connect(all);
  panel.disposed.connect(() => settingsChanged.disconnect(all));
  notebook.modelContentChanged.connect(all);
  void panel.context.ready.then(all);
}
