/** Wiring: the widget model with the widget registry, notebooks with the roads to Stop, commands and settings. */
import { IJupyterWidgetRegistry } from '@jupyter-widgets/base';
import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry, MimeModel } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { addCommands } from './commands';
import drawing from './drawing';
import { early } from './early';
import { StreamModel } from './model';
import { followProse } from './prose';
import { loadSettings } from './settings';
import library from './sidebar/plugin';
import { MIME } from './state';
import { follow } from './stop';

const ID = 'tokenstream-magic:plugin';

const plugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'Live streams of language models in notebook cells.',
  autoStart: true,
  requires: [IJupyterWidgetRegistry],
  optional: [
    INotebookTracker,
    IRenderMimeRegistry,
    ISettingRegistry,
    ICommandPalette,
    ITranslator
  ],
  activate: (
    app: JupyterFrontEnd,
    registry: IJupyterWidgetRegistry,
    notebooks: INotebookTracker | null,
    renderers: IRenderMimeRegistry | null,
    settingRegistry: ISettingRegistry | null,
    palette: ICommandPalette | null,
    translator: ITranslator | null
  ) => {
    registry.registerWidget({
      name: 'tokenstream-magic',
      version: '0.1.0',
      exports: { StreamModel }
    });
    if (settingRegistry) {
      // without them the defaults hold
      loadSettings(settingRegistry, ID).catch(() => undefined);
    }
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
      followProse(panel);
      early(panel).catch(() => undefined); // then it is live a little later
    });
    if (notebooks && renderers) {
      const trans = (translator ?? nullTranslator).load('tokenstream-magic');
      addCommands(app, notebooks, palette, trans, (data, metadata) => {
        const content = renderers.createRenderer(MIME);
        void content.renderModel(
          new MimeModel({
            data: data as MimeModel.IOptions['data'],
            metadata: metadata as MimeModel.IOptions['metadata']
          })
        );
        return new MainAreaWidget({ content });
      });
    }
  }
};

export default [plugin, drawing, library];
