import js from '@eslint/js';
import tseslint from 'typescript-eslint';

const TEXT_ONLY =
  'Model text is untrusted: it goes into the page as text nodes only.';
const markup = [
  'innerHTML',
  'outerHTML',
  'insertAdjacentHTML',
  'createContextualFragment',
  'setHTMLUnsafe',
  'parseHTMLUnsafe',
  'srcdoc'
];

export default tseslint.config(
  { ignores: ['lib/', 'node_modules/', '.yarn/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: {
        // the sources and their tests, which tsconfig.json leaves out
        project: './tsconfig.test.json',
        tsconfigRootDir: import.meta.dirname
      }
    },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      // a rejection is what callers of an async method expect of an error
      '@typescript-eslint/require-await': 'off',
      // Lumino's signals and Backbone's events take the method and `this`
      '@typescript-eslint/unbound-method': 'off'
    }
  },
  {
    rules: {
      'no-console': 'error',
      'no-eval': 'error',
      'no-new-func': 'error',
      'no-restricted-properties': [
        'error',
        ...markup.map(property => ({ property, message: TEXT_ONLY })),
        { property: 'eval', message: 'No code is made from text.' },
        { object: 'document', property: 'write', message: TEXT_ONLY },
        { object: 'document', property: 'writeln', message: TEXT_ONLY }
      ],
      'no-restricted-syntax': [
        'error',
        {
          // node.ownerDocument.write() and the like
          selector:
            'CallExpression[callee.property.name=/^write(ln)?$/][callee.object.property.name=/document$/i]',
          message: TEXT_ONLY
        },
        {
          selector: `CallExpression[callee.property.name='setAttribute'][arguments.0.value=/^(on|srcdoc$)/i]`,
          message: TEXT_ONLY
        }
      ]
    }
  }
);
