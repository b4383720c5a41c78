/**
 * Blocks of a long text that are so far from its end that the page need not lay them out until a reader comes near
 * (`content-visibility`, in answer.css). A tab that is shown again lays out all it holds at once: without this, three
 * seconds for a million characters. Those near the end are always laid out, so that following the tail needs no guess.
 */

/** So many blocks at the end are near: more than the box of an answer shows. */
const NEAR = 4;

/** To be called when `parent` has a new last child: the child that is no longer among the `near` last ones is far. */
export function recede(parent: Element, near = NEAR): void {
  let block = parent.lastElementChild;
  for (let passed = 1; passed < near && block; passed++) {
    block = block.previousElementSibling;
  }
  for (
    block = block?.previousElementSibling ?? null;
    block && !block.classList.contains('ts-Far');
    block = block.previousElementSibling
  ) {
    block.classList.add('ts-Far');
  }
}
