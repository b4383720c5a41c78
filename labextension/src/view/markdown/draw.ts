/** From tokens to a description of nodes. Whatever this does not know becomes text. */
import { codePart } from './code';
import type { Drawn, IElement, Tag } from './dom';
import { chipPart } from './image';
import { address, saysWhere } from './links';
import { mathPart } from './math';
import { type Token, airOf } from './parser';
import { afterMarks } from '../text';

/** How much of what costs a page is drawn in one answer; what is beyond stays text. */
export interface IBudget {
  links: number;
  images: number;
  cells: number;
}

/** A fresh budget. */
export function budget(): IBudget {
  return { links: 2000, images: 200, cells: 60_000 };
}

const INLINE: Record<string, Tag> = { em: 'em', strong: 'strong', s: 'del' };

/** Draws the tokens of `markdown-it`, spending the budget. */
export function draw(tokens: readonly Token[], spend: IBudget): Drawn[] {
  const root: IElement = { tag: 'div', children: [] };
  const stack: IElement[] = [root];
  const endBlank = new Set<IElement>(); // lists with an item that ends in a blank line
  for (const token of tokens) {
    const top = stack[stack.length - 1];
    if (token.nesting === 1) {
      const element = opened(token);
      top.children!.push(element);
      stack.push(inner(element));
      if (element.tag === 'li') {
        const { isTight, endsBlank } = airOf(token);
        if (!isTight || endBlank.has(top)) {
          top.className = 'ts-loose';
        }
        if (endsBlank) {
          endBlank.add(top);
        }
      }
    } else if (token.nesting === -1) {
      stack.pop();
    } else {
      const parent = stack[stack.length - 2];
      const isItem = parent?.tag === 'li' && parent.children!.length === 1;
      leaf(token, top, spend, isItem);
    }
  }
  return root.children!;
}

function opened(token: Token): IElement {
  const children: Drawn[] = [];
  switch (token.type) {
    case 'heading_open': {
      const level = Number(token.tag.slice(1));
      return {
        tag: 'div',
        className: `ts-Heading ts-H${level}`,
        attributes: {
          role: 'heading',
          'aria-level': String(Math.min(6, level + 2))
        },
        children
      };
    }
    case 'bullet_list_open':
      return { tag: 'ul', className: 'ts-tight', children };
    case 'ordered_list_open': {
      const start = String(token.attrGet('start') ?? '1');
      return {
        tag: 'ol',
        className: 'ts-tight',
        attributes: /^[02-9]|^1\d/.test(start) ? { start } : {},
        children
      };
    }
    case 'list_item_open':
      return { tag: 'li', children };
    case 'blockquote_open':
      return { tag: 'blockquote', children };
    case 'table_open':
      return {
        tag: 'div',
        className: 'ts-Table',
        children: [{ tag: 'table', children }]
      };
    case 'thead_open':
      return { tag: 'thead', children };
    case 'tbody_open':
      return { tag: 'tbody', children };
    case 'tr_open':
      return { tag: 'tr', children };
    case 'th_open':
      return {
        tag: 'th',
        className: alignment(token),
        attributes: { scope: 'col' },
        children
      };
    case 'td_open':
      return { tag: 'td', className: alignment(token), children };
    default:
      return { tag: 'p', children };
  }
}

/** Where the children of an element go. */
function inner(element: IElement): IElement {
  return element.className === 'ts-Table'
    ? (element.children![0] as IElement)
    : element;
}

function alignment(token: Token): string {
  const style = String(token.attrGet('style') ?? '');
  const side = /^text-align:(left|center|right)$/.exec(style)?.[1];
  return side ? `ts-${side}` : '';
}

function leaf(
  token: Token,
  into: IElement,
  spend: IBudget,
  isItem: boolean
): void {
  const children = into.children!;
  switch (token.type) {
    case 'inline':
      if (into.tag === 'td' && --spend.cells < 0) {
        children.push(token.content);
      } else {
        children.push(...inline(token, isItem, spend));
      }
      break;
    case 'fence':
      children.push(codePart(token.content, token.info));
      break;
    case 'code_block':
      children.push(codePart(token.content, ''));
      break;
    case 'hr':
      children.push({ tag: 'hr' });
      break;
    case 'math_block':
      children.push(
        token.hidden
          ? { tag: 'p', children: [token.markup + token.content] }
          : mathPart(token.markup, token.content, token.info, true)
      );
      break;
    default:
      children.push(plain(token.content));
  }
}

/** Text that is not parsed. */
export function plain(text: string): IElement {
  return { tag: 'div', className: 'ts-Plain', children: [text] };
}

function inline(block: Token, isItem: boolean, spend: IBudget): Drawn[] {
  if (afterMarks(block.content) > 0) {
    return parted(block.content);
  }
  const root: IElement = { tag: 'span', children: [] };
  const stack: IElement[] = [root];
  const tokens = block.children ?? [];
  let isLink = 0;
  tokens.forEach((token, index) => {
    const top = stack[stack.length - 1];
    const children = top.children!;
    switch (token.type) {
      case 'text':
        text(
          children,
          index === 0 ? task(token.content, children) : token.content
        );
        break;
      case 'softbreak':
        text(children, '\n');
        break;
      case 'hardbreak':
        children.push({ tag: 'br' });
        break;
      case 'code_inline':
        children.push({ tag: 'code', children: [token.content] });
        break;
      case 'math_inline':
        children.push(
          mathPart(
            token.markup,
            token.content,
            token.info,
            token.markup === '$$' || token.markup === '\\['
          )
        );
        break;
      case 'image':
        image(children, token, isLink > 0, spend);
        break;
      case 'link_open': {
        isLink++;
        const link: IElement = {
          tag: 'a',
          attributes: { href: String(token.attrGet('href') ?? '') },
          children: []
        };
        children.push(link);
        stack.push(link);
        break;
      }
      case 'link_close': {
        isLink--;
        const link = stack.pop()!;
        follow(link, stack[stack.length - 1].children!, spend);
        break;
      }
      default: {
        const tag = INLINE[token.tag];
        if (token.nesting === 1) {
          const element: IElement = { tag: tag ?? 'span', children: [] };
          children.push(element);
          stack.push(element);
        } else if (token.nesting === -1) {
          stack.pop();
        } else {
          text(children, token.content);
        }
      }
    }
  });
  return root.children!;

  /** `[ ]` and `[x]` at the start of a list item. */
  function task(content: string, children: Drawn[]): string {
    const box = /^\[([ xX])\](?=\s)/.exec(content);
    if (!box || !isItem) {
      return content;
    }
    const done = box[1] !== ' ';
    children.push({
      tag: 'span',
      className: done ? 'ts-Task ts-done' : 'ts-Task',
      attributes: { role: 'img', 'aria-label': done ? 'done' : 'to do' }
    });
    return content.slice(3);
  }
}

/** Text with more marks than a letter takes, as boxes of it. */
function parted(content: string): Drawn[] {
  const boxes: Drawn[] = [];
  let rest = content;
  while (rest) {
    const at = afterMarks(rest);
    const children = [at > 0 ? rest.slice(0, at) : rest];
    boxes.push({ tag: 'span', className: 'ts-Marks', children });
    rest = at > 0 ? rest.slice(at) : '';
  }
  return boxes;
}

function text(into: Drawn[], more: string): void {
  const last = into.length - 1;
  if (typeof into[last] === 'string') {
    into[last] = into[last] + more;
  } else if (more) {
    into.push(more);
  }
}

/** Makes the link safe to follow and says where it goes, or takes it apart again. */
function follow(link: IElement, beside: Drawn[], spend: IBudget): void {
  const to = address(link.attributes!.href!);
  if (!to || spend.links <= 0) {
    link.tag = 'span';
    link.attributes = {};
    if (to) {
      text(beside, ` (${to.href})`);
    }
    return;
  }
  spend.links--;
  link.attributes = {
    href: to.href,
    rel: 'noopener noreferrer nofollow',
    referrerpolicy: 'no-referrer',
    target: '_blank',
    title: to.href
  };
  if (!saysWhere(words(link), to)) {
    beside.push({
      tag: 'span',
      className: 'ts-Host',
      children: [` (${to.host})`]
    });
  }
}

function image(
  into: Drawn[],
  token: Token,
  isLink: boolean,
  spend: IBudget
): void {
  const to = address(String(token.attrGet('src') ?? ''));
  const alt = token.content.replace(/\s+/g, ' ').trim();
  if (!to || to.href.startsWith('mailto:') || spend.images <= 0 || isLink) {
    text(into, `[${alt || 'image'}${to ? `: ${to.host}` : ''}]`);
    return;
  }
  spend.images--;
  into.push(chipPart(to, alt));
}

function words(drawn: Drawn): string {
  if (typeof drawn === 'string') {
    return drawn;
  }
  return 'part' in drawn ? '' : (drawn.children ?? []).map(words).join('');
}
