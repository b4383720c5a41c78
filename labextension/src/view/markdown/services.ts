/** What the page lends to the view: JupyterLab's own languages, typesetter and words. All of it may be missing. */
import type { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import type { TranslationBundle } from '@jupyterlab/translation';

/** Set by the plugins when the page starts. */
export const services: {
  languages: IEditorLanguageRegistry | null;
  typesetter: IRenderMime.ILatexTypesetter | null;
  trans: TranslationBundle | null;
} = { languages: null, typesetter: null, trans: null };

/** A text in the reader's language. */
export function say(text: string): string {
  return services.trans ? services.trans.__(text) : text;
}
