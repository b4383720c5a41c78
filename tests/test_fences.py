"""The first fenced block of an answer."""

import pytest

from tokenstream_magic.fences import first


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("Here:\n```python\nx = 1\n\ny = 2\n```\nand\n```\nother\n```", "x = 1\n\ny = 2\n"),
        ("~~~\na\n```\nb\n~~~", "a\n```\nb\n"),
        ("````md\n```\ninner\n```\n````", "```\ninner\n```\n"),
        ("```\ncut of", "cut of"),
        ("```\n```", ""),
        ("  ```\n  indented\n    more\n  ```", "indented\n  more\n"),
        ("```a`b\nno fence\n```\nyes\n```", "yes\n"),
        ("```\r\na\r\n```\r\n", "a\r\n"),
        ("```\na\u2028```\nb\n```", "a\u2028```\nb\n"),
        ("    ```\nindented code is no fence", None),
        ("`` `inline` ``", None),
        ("", None),
    ],
)
def test_the_first_block_without_its_fences(text, block):
    assert first(text) == block
