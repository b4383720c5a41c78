"""What our flags become in the body of each protocol, to the letter."""

import pytest

from tokenstream_magic.wire import parts
from tokenstream_magic.wire.protocols import PROTOCOLS

PNG = {"type": "attachment", "media_type": "image/png", "name": "dot.png", "size": 3, "sha256": "ab", "data": "QUJD"}
PDF = {**PNG, "media_type": "application/pdf", "name": "page.pdf"}
WAV = {**PNG, "media_type": "audio/wav", "name": "sound.wav"}
NOTES = {"type": "attachment", "media_type": "text/plain", "name": "notes.txt", "size": 3, "sha256": "cd", "text": "a\n```\nb"}
GONE = {name: value for name, value in PNG.items() if name != "data"}
NOTES_SENT = "notes.txt:\n\n````\na\n```\nb\n````"
GONE_SENT = "[dot.png (image/png, 3 bytes) was attached here]"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
TOOL = {"name": "add", "description": "Adds.", "parameters": SCHEMA}


def body(protocol, messages, model="m", **options):
    return PROTOCOLS[protocol].request(model, messages, options).body


def said(*content):
    return [{"role": "user", "content": [*content, {"type": "text", "text": "What is it?"}]}]


ATTACHED = {
    "openai-chat": [
        (PNG, {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}),
        (PDF, {"type": "file", "file": {"filename": "page.pdf", "file_data": "data:application/pdf;base64,QUJD"}}),
        (WAV, {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}),
        (NOTES, {"type": "text", "text": NOTES_SENT}),
        (GONE, {"type": "text", "text": GONE_SENT}),
    ],
    "openai-responses": [
        (PNG, {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "auto"}),
        (PDF, {"type": "input_file", "filename": "page.pdf", "file_data": "data:application/pdf;base64,QUJD"}),
        (NOTES, {"type": "input_text", "text": NOTES_SENT}),
        (GONE, {"type": "input_text", "text": GONE_SENT}),
    ],
    "anthropic": [
        (PNG, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}),
        (PDF, {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}, "title": "page.pdf"}),
        (NOTES, {"type": "text", "text": NOTES_SENT}),
        (GONE, {"type": "text", "text": GONE_SENT}),
    ],
    "gemini": [
        (PNG, {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}),
        (PDF, {"inlineData": {"mimeType": "application/pdf", "data": "QUJD"}}),
        (WAV, {"inlineData": {"mimeType": "audio/wav", "data": "QUJD"}}),
        (NOTES, {"text": NOTES_SENT}),
        (GONE, {"text": GONE_SENT}),
    ],
}
WORDS = {
    "openai-chat": {"type": "text", "text": "What is it?"},
    "openai-responses": {"type": "input_text", "text": "What is it?"},
    "anthropic": {"type": "text", "text": "What is it?"},
    "gemini": {"text": "What is it?"},
}


@pytest.mark.parametrize(("protocol", "part", "sent"), [(p, part, sent) for p, cases in ATTACHED.items() for part, sent in cases])
def test_an_attachment_in_the_protocols_own_part(protocol, part, sent):
    sending = body(protocol, said(part))
    where = {"openai-responses": "input", "gemini": "contents"}.get(protocol, "messages")
    (message,) = sending[where]
    assert message == {"role": "user", "parts" if protocol == "gemini" else "content": [sent, WORDS[protocol]]}


def test_ollama_has_images_beside_one_text():
    assert body("ollama", said(PNG, NOTES, GONE, PNG))["messages"] == [
        {"role": "user", "content": f"{NOTES_SENT}\n\n{GONE_SENT}\n\nWhat is it?", "images": ["QUJD", "QUJD"]}
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_content_of_the_protocols_own_parts_goes_as_it_is(protocol):
    own = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}, {"type": "whatever", "x": [1]}]
    sending = body(protocol, [{"role": "user", "content": own}])
    (message,) = sending.get("messages") or sending.get("input") or sending["contents"]
    assert message.get("content", message.get("parts")) == own


CALLED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1+2 and 3+4?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"n": 1}'}},
            {"id": "c2", "type": "function", "function": {"name": "add", "arguments": "{broken"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "3"},
    {"role": "tool", "tool_call_id": "c2", "name": "add", "content": "Error: no JSON"},
    {"role": "assistant", "content": "3 and an error."},
    {"role": "user", "content": "Again."},
]


def test_calls_and_results_chat():
    sent = body("openai-chat", CALLED, tool=[TOOL])
    assert sent["messages"][:3] == CALLED[:3]
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "3"}
    assert sent["messages"][5:] == CALLED[5:]
    assert sent["tools"] == [{"type": "function", "function": TOOL}]
    assert "tool" not in sent


def test_calls_and_results_responses():
    sent = body("openai-responses", CALLED, tool=[TOOL])
    assert sent["instructions"] == "Be brief."
    assert sent["input"] == [
        {"role": "user", "content": "1+2 and 3+4?"},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"n": 1}'},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": "{broken"},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        {"type": "function_call_output", "call_id": "c2", "output": "Error: no JSON"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "3 and an error."}]},
        {"role": "user", "content": "Again."},
    ]
    assert sent["tools"] == [{"type": "function", **TOOL, "strict": False}]


def test_calls_and_results_anthropic():
    sent = body("anthropic", CALLED, tool=[TOOL])
    assert sent["system"] == "Be brief."
    assert sent["messages"] == [
        {"role": "user", "content": "1+2 and 3+4?"},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"n": 1}},
                {"type": "tool_use", "id": "c2", "name": "add", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "3"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "Error: no JSON"},
            ],
        },
        {"role": "assistant", "content": "3 and an error."},
        {"role": "user", "content": "Again."},
    ]
    assert sent["tools"] == [{"name": "add", "description": "Adds.", "input_schema": SCHEMA}]


@pytest.mark.parametrize(("model", "signed"), [("gemini-2.5-flash", False), ("gemini-3-pro", True)])
def test_calls_and_results_gemini(model, signed):
    sent = body("gemini", CALLED, model, tool=[TOOL])
    signature = {"thoughtSignature": "skip_thought_signature_validator"} if signed else {}
    assert sent["contents"] == [
        {"role": "user", "parts": [{"text": "1+2 and 3+4?"}]},
        {
            "role": "model",
            "parts": [{"functionCall": {"name": "add", "args": {"n": 1}}, **signature}, {"functionCall": {"name": "add", "args": {}}}],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "add", "response": {"result": "3"}}},
                {"functionResponse": {"name": "add", "response": {"result": "Error: no JSON"}}},
            ],
        },
        {"role": "model", "parts": [{"text": "3 and an error."}]},
        {"role": "user", "parts": [{"text": "Again."}]},
    ]
    assert sent["tools"] == [{"functionDeclarations": [{"name": "add", "description": "Adds.", "parametersJsonSchema": SCHEMA}]}]


def test_calls_and_results_ollama():
    sent = body("ollama", CALLED, tool=[TOOL])
    assert sent["messages"][2:5] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "add", "arguments": {"n": 1}}}, {"function": {"name": "add", "arguments": {}}}],
        },
        {"role": "tool", "tool_name": "add", "content": "3"},
        {"role": "tool", "tool_name": "add", "content": "Error: no JSON"},
    ]
    assert sent["tools"] == [{"type": "function", "function": TOOL}]


def test_a_schema_in_the_protocols_own_field():
    wanted = {"name": "answer", "schema": SCHEMA, "strict": True}
    assert body("openai-chat", CALLED, schema=SCHEMA)["response_format"] == {"type": "json_schema", "json_schema": wanted}
    assert body("openai-responses", CALLED, schema=SCHEMA, text={"verbosity": "low"})["text"] == {
        "verbosity": "low",
        "format": {"type": "json_schema", **wanted},
    }
    anthropic = body("anthropic", CALLED, schema=SCHEMA)
    assert anthropic["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert "schema" not in anthropic
    gemini = body("gemini", CALLED, schema=SCHEMA, temperature=0)
    assert gemini["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA, "temperature": 0}
    assert body("ollama", CALLED, schema=SCHEMA)["format"] == SCHEMA


def test_json_without_a_schema_in_the_protocols_own_field():
    assert body("openai-chat", CALLED, json=True)["response_format"] == {"type": "json_object"}
    assert body("openai-responses", CALLED, json=True)["text"] == {"format": {"type": "json_object"}}
    assert body("gemini", CALLED, json=True)["generationConfig"] == {"responseMimeType": "application/json"}
    assert body("ollama", CALLED, json=True)["format"] == "json"
    assert {name for name, protocol in PROTOCOLS.items() if not protocol.JSON_MODE} == {"anthropic"}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (SCHEMA, True),
        ({**SCHEMA, "additionalProperties": True}, False),
        ({**SCHEMA, "required": []}, False),
        ({"type": "object", "properties": {}}, False),
        ({**SCHEMA, "properties": {"n": {"type": "array", "items": {"type": "object", "properties": {}}}}}, False),
        ({**SCHEMA, "properties": {"n": {"anyOf": [{"type": "null"}, SCHEMA]}}}, True),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"x": {}}}}}, False),
    ],
)
def test_strict_is_said_only_of_schemas_a_server_can_enforce(schema, strict):
    assert parts.is_strict(schema) is strict
