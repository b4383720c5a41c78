/** What JupyterLab lends to the view: its languages for code, its typesetter for formulas, its words. */
import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { ILatexTypesetter } from '@jupyterlab/rendermime';
import { ITranslator } from '@jupyterlab/translation';

import { services } from './view/markdown/services';

const drawing: JupyterFrontEndPlugin<void> = {
  id: 'tokenstream-magic:drawing',
  description: 'Colours of code and typeset formulas in streamed answers.',
  autoStart: true,
  optional: [IEditorLanguageRegistry, ILatexTypesetter, ITranslator],
  activate: (
    _app: JupyterFrontEnd,
    languages: IEditorLanguageRegistry | null,
    typesetter: ILatexTypesetter | null,
    translator: ITranslator | null
  ) => {
    services.languages = languages;
    services.typesetter = typesetter;
    services.trans = translator?.load('tokenstream-magic') ?? null;
  }
};

export default drawing;
