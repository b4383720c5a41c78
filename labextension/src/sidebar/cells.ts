/** Putting a cell into the notebook the reader works in. It is never run from here. */
import type { INotebookTracker } from '@jupyterlab/notebook';

/** Inserts a code cell below the active one and makes it the active one; false when there is no notebook to write in. */
export function insertBelow(
  notebooks: INotebookTracker | null,
  source: string
): boolean {
  const panel = notebooks?.currentWidget;
  const notebook = panel?.content;
  if (!panel || !notebook?.model || notebook.model.readOnly) {
    return false;
  }
  const index = notebook.widgets.length ? notebook.activeCellIndex + 1 : 0;
  notebook.model.sharedModel.insertCell(index, {
    cell_type: 'code',
    source,
    metadata: {},
    outputs: []
  });
  notebook.activeCellIndex = index;
  notebook.deselectAll();
  notebook.mode = 'command';
  void notebook.scrollToItem(index, 'smart');
  return true;
}
