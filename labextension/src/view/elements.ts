/** Building DOM nodes from a closed list of tags; text goes in as text. */

type Tag =
  | 'section'
  | 'header'
  | 'div'
  | 'span'
  | 'button'
  | 'details'
  | 'summary'
  | 'progress'
  | 'dl'
  | 'dt'
  | 'dd'
  | 'input'
  | 'label'
  | 'select'
  | 'option'
  | 'table'
  | 'thead'
  | 'tbody'
  | 'tr'
  | 'th'
  | 'td'
  | 'p'
  | 'time'
  | 'pre';

/** An element with a class and text. */
export function element<K extends Tag>(
  tag: K,
  className: string,
  text = ''
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  node.className = className;
  if (text) {
    node.textContent = text;
  }
  return node;
}

/** Sets text only when it changed, so that nothing is laid out again for nothing. */
export function setText(node: HTMLElement, text: string): void {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}
