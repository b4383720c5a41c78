"""All of the view can be read: WCAG AA contrast in every theme and with the system's own colours."""

from __future__ import annotations

import pytest
from contrast import contrasts, too_low
from lab import Lab, Page

from tokenstream_magic.mock.script import Script, Tool, words
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

ANSWER = """# One

*Two*, `three`, [four](https://four.example/x) and ![five](https://five.example/x.png)

###### Six

> seven

- [x] eight

| nine | ten |
|---|---|
| 1 | 2 |
| 3 | 4 |

```python
eleven = "twelve"
```
"""
THEMES = ["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"]
WANTED = [
    {"forced_colors": "none", "contrast": "no-preference", "color_scheme": "light"},
    {"forced_colors": "none", "contrast": "more", "color_scheme": "light"},
    {"forced_colors": "active", "contrast": "more", "color_scheme": "light"},
    {"forced_colors": "active", "contrast": "more", "color_scheme": "dark"},
]
SHOWN = {"ts-Model", "ts-Words", "ts-Origin", "ts-Name", "ts-Waited", "ts-AxisEnd", "ts-Note", "ts-GroupTitle", "ts-Problem", "ts-WireAt"}


def change_theme(page: Page, theme: str) -> None:
    page.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    page.page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)


def test_everything_can_be_read_in_every_theme(page: Page, lab: Lab, server: MockServer) -> None:
    tools = (Tool("find", '{"a": [1, "b"]}'),)
    server.scripts["rich"] = Script(words(ANSWER), first=0.1, gap=0.005, reasoning=words("Let me think."), tools=tools)
    server.scripts["fails"] = Script(status=500)
    server.scripts["pauses"] = Script(words("One two three four five."), gap=0.2)
    server.scripts["json"] = Script(('{"key": ["value", 1, null]}',))
    silent = Script(first=600)
    server.scripts["silent"] = silent
    base = f"--base-url {server.base_url} --max-retries 0"
    prompts = [
        f"rich {base} --wire",
        f"fails {base}",
        f"json {base} -f json",
        "--replay last~2 --as buffered --speed instant",
        f"pauses {base}",
    ]
    note = "import tokenstream_magic as ts\nt = ts.transcripts.last(); t.diagnostics.append('a note'); t"
    lab.write(
        "contrast.ipynb", ["%load_ext tokenstream_magic", *(f"%%stream {p}\nHi" for p in prompts), note, f"%%stream silent {base}\nHi"]
    )
    page.open("contrast.ipynb")
    for index in range(7):
        page.run_done(index)
    for index in (1, 6):
        page.cell(index).locator(".ts-Panel > summary").click()
    page.cell(1).locator(".ts-Wire > summary").click()
    page.cell(1).locator(".ts-Reasoning > summary").click()
    page.cell(5).locator(".ts-Panel > summary").click()
    page.cell(5).locator(".ts-TintToggle").click()
    page.run(7)
    page.wait_state(7, "waiting")
    page.cell(7).get_by_role("button", name="Stop", exact=True).hover()
    low = []
    try:
        for theme in THEMES:
            change_theme(page, theme)
            for wanted in WANTED:
                page.page.emulate_media(**wanted)  # type: ignore[arg-type]
                low += [f"{theme}, {wanted}: {each}" for each in too_low(page.page)]
                seen = {name for each in contrasts(page.page) for name in each["what"].replace(" ", ".").split(".")}
                assert seen >= SHOWN
    finally:
        change_theme(page, THEMES[0])
        page.cell(7).get_by_role("button", name="Stop", exact=True).click()
        page.wait_done(7)
    assert low == []
