"""The contrast of what a page shows, as WCAG 2 defines it, from its computed styles."""

from __future__ import annotations

from typing import Any

# Colours are mixed by the browser: each background of an element's ancestors over the one below it, the text over all.
_MEASURE = """([root, graphics, without]) => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const mixed = colours => {
    canvas.globalCompositeOperation = 'source-over';
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of ['white', ...colours]) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    const colours = [];
    for (let each = node; each; each = each.parentElement) colours.unshift(getComputedStyle(each).backgroundColor);
    return colours;
  };
  // a label in the bar of the time waited is over a shape, which is no background
  const below = node => {
    const wait = node.matches('.ts-Waited') && node.closest('.ts-Timeline').querySelector('.ts-Wait');
    return [...behind(node), ...(wait ? [getComputedStyle(wait).fill] : [])];
  };
  const ratio = (colour, below) => {
    const [a, b] = [light(mixed([...below, colour])), light(mixed(below))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const found = new Map();
  const take = (what, value, needed, words) => {
    const known = found.get(what);
    if (!known || value / needed < known.ratio / known.needed) found.set(what, {what, ratio: value, needed, words});
  };
  const named = node => {
    const own = node.closest('[class*="ts-"]');
    return [own && [...own.classList].filter(name => name.startsWith('ts-')).join('.'), own === node ? '' : node.localName].join(' ').trim();
  };
  for (const stream of document.querySelectorAll(root)) {
    const walk = document.createTreeWalker(stream, NodeFilter.SHOW_TEXT);
    for (let text = walk.nextNode(); text; text = walk.nextNode()) {
      const node = text.parentElement;
      const box = node.getBoundingClientRect();
      if (!text.data.trim() || !node.checkVisibility() || box.width < 3 || node.closest(without)) continue;
      const style = getComputedStyle(node);
      const size = parseFloat(style.fontSize);
      const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      take(named(node), ratio(style.color, below(node)), isLarge || node.matches(graphics) ? 3 : 4.5, text.data.trim().slice(0, 40));
    }
    for (const node of stream.querySelectorAll('.ts-Arrived')) {
      if (node.checkVisibility()) take('a mark of the timeline, ' + node.dataset.channel, ratio(getComputedStyle(node).fill, behind(node)), 3, '');
    }
    for (const [name, property] of [['.ts-Stall', 'borderBottomColor'], ['.ts-StopMark', 'backgroundColor'], ['.ts-Task', 'borderColor']]) {
      for (const node of stream.querySelectorAll(name)) {
        const style = getComputedStyle(node, name === '.ts-Task' ? '::before' : null);
        take(name.slice(1), ratio(style[property], behind(node.parentElement)), 3, '');
      }
    }
  }
  return [...found.values()].sort((a, b) => a.ratio / a.needed - b.ratio / b.needed);
}"""

# Symbols repeat what the words beside them say; colours of code and formulas are JupyterLab's own.
_GRAPHICS = ".ts-Symbol"
_WITHOUT = ":disabled, [aria-disabled], .ts-Announcer, .ts-Aside, mjx-container, .ts-Code code span"


def contrasts(page: Any, root: str = ".ts-Transcript") -> list[dict[str, Any]]:
    """What is seen in ``root``, a class a line, lowest first: ``what``, its ``ratio``, the ratio ``needed``, some of its ``words``."""
    found: list[dict[str, Any]] = page.evaluate(_MEASURE, [root, _GRAPHICS, _WITHOUT])
    return found


def too_low(page: Any, root: str = ".ts-Transcript") -> list[str]:
    """What has less contrast than WCAG AA asks, for a reader."""
    return [
        f"{each['what']}: {each['ratio']:.2f} of {each['needed']} ({each['words']})"
        for each in contrasts(page, root)
        if each["ratio"] < each["needed"] - 0.005
    ]
