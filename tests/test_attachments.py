"""What is attached: what it is taken for, what is refused, and that a transcript keeps no byte of it."""

import base64
import hashlib
import io
import json
import os
from pathlib import Path

import pytest

from tokenstream_magic import api, asking, attachments
from tokenstream_magic.errors import BadRequest

HEADS = {
    "image/png": b"\x89PNG\r\n\x1a\n...",
    "image/jpeg": b"\xff\xd8\xff\xe0...",
    "image/gif": b"GIF89a...",
    "image/webp": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    "application/pdf": b"%PDF-1.7\n...",
    "audio/wav": b"RIFF\x10\x00\x00\x00WAVEfmt ",
    "audio/mpeg": b"ID3\x04...",
    "audio/ogg": b"OggS...",
    "audio/flac": b"fLaC...",
    "audio/aiff": b"FORM\x00\x00\x00\x10AIFF",
}


@pytest.mark.parametrize(("media_type", "data"), HEADS.items())
def test_the_first_bytes_say_what_it_is_and_never_the_name(tmp_path, media_type, data):
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    part = attachments.load(str(path))
    assert part == {
        "type": "attachment",
        "media_type": media_type,
        "name": "table.csv",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "data": base64.b64encode(data).decode(),
    }


@pytest.mark.parametrize("data", ["Zürich\n".encode(), "Zürich\n".encode("utf-16"), b"\xef\xbb\xbf" + "Zürich\n".encode()])
def test_text_is_text_in_whatever_encoding_says_so(tmp_path, data):
    (tmp_path / "notes.png").write_bytes(data)
    part = attachments.load(tmp_path / "notes.png")
    assert (part["media_type"], part["text"], part["name"]) == ("text/plain", "Zürich\n", "notes.png")


def test_the_home_directory_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("here")
    assert attachments.named("~/a.txt", {})["text"] == "here"


def test_a_variable_comes_before_a_file_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").write_text("the file")
    assert attachments.named("data", {"data": "the variable"})["text"] == "the variable"
    assert attachments.named("./data", {"data": "the variable"})["text"] == "the file"
    assert attachments.named("data", {})["text"] == "the file"


def test_values_of_a_notebook():
    from PIL import Image

    pandas = pytest.importorskip("pandas")
    picture = attachments.named("dot", {"dot": Image.new("CMYK", (2, 1))})
    assert (picture["media_type"], picture["name"]) == ("image/png", "dot.png")
    assert Image.open(io.BytesIO(base64.b64decode(picture["data"]))).size == (2, 1)
    table = attachments.named("table", {"table": pandas.DataFrame({"a": [1, 2]})})
    assert (table["media_type"], table["name"], table["text"]) == ("text/csv", "table.csv", ",a\n0,1\n1,2\n")
    assert attachments.named("raw", {"raw": bytearray(HEADS["image/gif"])})["name"] == "raw.gif"


def test_a_figure_is_drawn():
    figures = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure()
    figure.add_subplot().plot([1, 2])
    assert attachments.named("figure", {"figure": figure})["media_type"] == "image/png"


def refusals(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "program").write_bytes(b"\x7fELF\x00\x01\xff")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(attachments.MOST_BYTES + 1)
    (tmp_path / "long.txt").write_text("x" * (attachments.MOST_TEXT + 1))
    return {
        "empty": "is empty",
        "blank.txt": "is empty",
        "program": "type that cannot be attached",
        "loop": "cannot be read",
        "pipe": "is no file",
        ".": "is no file",
        "missing": "No such file",
        "huge": "20.0 MiB, more than 20.0 MiB",
        "long.txt": "is text of 2.0 MiB",
        "a\0b": "cannot be read",
        "x" * 5000: "cannot be read",
    }


def test_what_cannot_be_attached_is_refused_in_one_line(tmp_path):
    for name, said in refusals(tmp_path).items():
        with pytest.raises(BadRequest) as caught:
            attachments.load(f"{tmp_path}/{name}")
        assert said in caught.value.message, name[:40]
        assert caught.value.hint


@pytest.mark.parametrize("word", ["/dev/zero", "https://example.org/cat.png", "file:///etc/hostname", "data:x", "~nobody-of-that-name/x"])
def test_no_device_is_read_and_no_address_fetched(word):
    with pytest.raises(BadRequest):
        attachments.load(word)


@pytest.mark.parametrize("value", [None, 7, object(), ["a"], {"a": 1}])
def test_a_value_of_no_use_is_refused_by_its_type(value):
    with pytest.raises(BadRequest, match=type(value).__name__):
        attachments.load(value, "value")


def test_together_they_have_a_limit_too():
    part = {"type": "attachment", "media_type": "image/png", "name": "a", "size": 15 << 20, "sha256": "", "data": ""}
    with pytest.raises(BadRequest, match="together"):
        attachments.attach({"role": "user", "content": "x"}, [part] * 3)


@pytest.mark.parametrize(
    ("protocol", "media_type"),
    [
        ("openai-responses", "audio/wav"),
        ("anthropic", "audio/mpeg"),
        ("ollama", "application/pdf"),
        ("gemini", "image/gif"),
        ("openai-chat", "audio/flac"),
    ],
)
def test_what_a_protocol_cannot_take_is_refused_with_what_it_can(protocol, media_type):
    with pytest.raises(BadRequest) as caught:
        asking.prepare(
            "Hi", "m", base_url="http://127.0.0.1:9/v1", protocol=protocol, attachment=attachments.load(HEADS[media_type], "thing")
        )
    assert media_type in caught.value.message
    assert "png" in caught.value.hint


def test_the_request_has_the_bytes_and_the_transcript_name_type_size_and_hash(mock, tmp_path):
    secret = b"\x89PNG\r\n\x1a\n" + b"pixels" * 1000
    (tmp_path / "dot.png").write_bytes(secret)
    (tmp_path / "words.txt").write_text("quiet words")
    transcript = api.stream("Look", "hello", base_url=mock.base_url, attachment=[tmp_path / "dot.png", tmp_path / "words.txt"])
    sent = mock.exchanges[-1].body["messages"][0]["content"]
    assert sent[0]["image_url"]["url"].endswith(base64.b64encode(secret).decode())
    assert sent[1]["text"].startswith("words.txt:") and "quiet words" in sent[1]["text"]
    assert sent[2] == {"type": "text", "text": "Look"}
    assert transcript.prompt == "Look"
    about = {"name": "dot.png", "size": len(secret), "sha256": hashlib.sha256(secret).hexdigest()}
    assert transcript.messages[0]["content"][0] == {"type": "attachment", "media_type": "image/png", **about}
    from tokenstream_magic import transcripts

    kept = transcripts.get(transcript.id)
    assert kept.messages == transcript.messages
    assert len(json.dumps(kept.messages)) < 1000 and "quiet words" not in json.dumps(kept.messages)


def test_a_conversation_goes_on_about_what_was_attached(mock, tmp_path):
    picture = attachments.load(HEADS["image/png"] + os.urandom(8), "shot")
    where = {"model": "hello", "base_url": mock.base_url}
    first = api.stream("Look", attachment=picture, **where)
    api.stream("And now?", continue_=True, **where)
    url = mock.exchanges[-1].body["messages"][0]["content"][0]["image_url"]["url"]
    assert url.endswith(picture["data"])
    attachments._bytes_of.clear()
    api.stream("And now?", cid=first.id, **where)
    assert mock.exchanges[-1].body["messages"][0]["content"][0]["text"].startswith("[shot.png (image/png,")
