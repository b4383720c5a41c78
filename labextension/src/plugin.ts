/** Wiring: the widget model with the widget registry, and every notebook's kernel with the roads to Stop. */
import { IJupyterWidgetRegistry } from '@jupyter-widgets/base';
import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';

import { StreamModel } from './model';
import { follow } from './stop';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'tokenstream-magic:plugin',
  description: 'Live streams of language models in notebook cells.',
  autoStart: true,
  requires: [IJupyterWidgetRegistry],
  optional: [INotebookTracker],
  activate: (
    _app: JupyterFrontEnd,
    registry: IJupyterWidgetRegistry,
    notebooks: INotebookTracker | null
  ) => {
    registry.registerWidget({
      name: 'tokenstream-magic',
      version: '0.1.0',
      exports: { StreamModel }
    });
    notebooks?.widgetAdded.connect((_, panel) => {
      panel.sessionContext.kernelChanged.connect((__, change) => {
        if (change.newValue) {
          follow(change.newValue);
        }
      });
      const kernel = panel.sessionContext.session?.kernel;
      if (kernel) {
        follow(kernel);
      }
    });
  }
};

export default plugin;
