"""``%stream models`` in a real kernel: an answer in seconds, whatever the servers and names do."""

from __future__ import annotations

import socket
import time

from answering import answering
from harness import Kernel


def printed(published: list[dict]) -> str:
    return "".join(m["content"]["text"] for m in published if m["msg_type"] == "stream")


def test_models_are_listed_while_one_server_is_silent(tmp_path) -> None:
    with socket.socket() as silent, answering({"data": [{"id": "quick\x1b[31m"}]}) as (address, _):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        config = tmp_path / "mine.toml"
        config.write_text(
            f'[endpoints.silent]\nbase_url = "http://127.0.0.1:{silent.getsockname()[1]}/v1"\n[endpoints.lab]\nbase_url = "{address}"\n'
        )
        with Kernel(environment={"TOKENSTREAM_CONFIG": str(config), "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}) as kernel:
            kernel.run("%load_ext tokenstream_magic")
            kernel.run("%stream help")  # what is imported on first use is no part of it
            began = time.monotonic()
            text = printed(kernel.run("%stream models"))
            took = time.monotonic() - began
            one = printed(kernel.run("%stream models lab"))
            wrong = printed(kernel.run("%stream models nosuch"))
    assert took < 3.5, took
    lines = {line.split("/")[0]: line for line in text.splitlines()}
    assert "no answer" in lines["silent"]
    assert "serves 1 model: quick" in lines["lab"]
    assert "ready" in lines["local"]
    assert "no key: set OPENAI_API_KEY" in lines["openai"]
    assert one == "lab/quick\n"
    assert "There is no endpoint of that name" in wrong
