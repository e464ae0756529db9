"""The canonical request: what is checked, what is written down, and what is sent on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixie_proxy.errors import InvalidBody, InvalidValue
from pixie_proxy.records import Kind
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.upstream import FilePart, TextPart


def from_json(fields: dict[str, Any], kind: Kind = "generation") -> ImageRequest:
    return ImageRequest.from_json(
        kind, json.dumps({"prompt": "a cat", **fields}).encode(), allow_file_id=False
    )


def from_form(
    *texts: tuple[str, bytes], files: tuple[FilePart, ...] = (), kind: Kind = "edit"
) -> ImageRequest:
    parts = [TextPart(name=name, value=value) for name, value in (("prompt", b"a cat"), *texts)]
    return ImageRequest.from_form(kind, parts, files, allow_file_id=False)


def a_file(name: str = "image", sha256: str = "0" * 64) -> FilePart:
    return FilePart(
        name=name, filename="a.png", mime="image/png", path=Path("a"), size_bytes=7, sha256=sha256
    )


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda text: "file_id" not in text)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS.map("x_{}".format), VALUES))
def test_every_unknown_field_is_sent_on_as_it_is(unknown: dict[str, Any]) -> None:
    """Whatever JSON can say: nothing is dropped, and no number changes."""
    sent = from_json(unknown).to_upstream("req_1", "gpt-image-2", None)
    assert sent.json is not None
    assert json.loads(sent.json) == {"prompt": "a cat", "model": "gpt-image-2", **unknown}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "svg[reasoning][effort]"]), st.binary(max_size=30)), max_size=6
    )
)
def test_every_text_of_a_form_is_sent_on_as_it_is(texts: list[tuple[str, bytes]]) -> None:
    """In its order, byte for byte, also when a name comes twice; only model and response_format are ours."""
    texts = [(name, value.decode("utf-8", "replace").encode()) for name, value in texts]
    sent = from_form(*texts, ("model", b"alias"), ("response_format", b"url"), files=(a_file(),)).to_upstream(
        "req_1", "flux", "b64_json"
    )
    told = [(part.name, part.value) for part in sent.form if isinstance(part, TextPart)]
    assert told == [("prompt", b"a cat"), *texts, ("model", b"flux"), ("response_format", b"b64_json")]
    assert sent.form[-1] == a_file()


def test_the_last_of_two_equal_names_counts_and_goes_on() -> None:
    """What was checked and priced is what is sent, and not the other one."""
    body = b'{"prompt":"a","n":1,"n":2,"prompt":"b"}'
    request = ImageRequest.from_json("generation", body, allow_file_id=False)
    sent = request.to_upstream("req_1", "m", None)
    assert (request.n, request.prompt) == (2, "b")
    assert orjson.loads(sent.json or b"") == {"prompt": "b", "n": 2, "model": "m"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (1, False, 0, None, None)),
        (
            {"n": None, "stream": None, "partial_images": None, "response_format": None},
            (1, False, 0, None, None),
        ),
        (
            {"n": 10, "stream": True, "partial_images": 3, "response_format": "url", "model": "m"},
            (10, True, 3, "url", "m"),
        ),
        (
            {"n": 1, "stream": False, "partial_images": 0, "response_format": "b64_json"},
            (1, False, 0, "b64_json", None),
        ),
    ],
)
def test_what_we_must_know_is_read_the_same_from_both(
    fields: dict[str, Any], expected: tuple[object, ...]
) -> None:
    """JSON and form mean the same, in their own spelling."""
    spelled = [(name, json.dumps(value).strip('"').encode()) for name, value in fields.items()]
    for request in (from_json(fields), from_form(*spelled)):
        assert (
            request.n,
            request.is_stream,
            request.partial_images,
            request.response_format,
            request.model,
        ) == expected


@pytest.mark.parametrize(
    ("text", "means"),
    [
        (b"true", True),
        (b"True", True),
        (b"FALSE", False),
        (b"", False),
        (b"null", False),
        (b"0", None),
        (b"on", None),
    ],
)
def test_a_forms_truth(text: bytes, means: bool | None) -> None:
    """As SDKs and aiohttp's clients spell it; what could mean either is refused."""
    if means is None:
        with pytest.raises(InvalidValue):
            from_form(("stream", text))
    else:
        assert from_form(("stream", text)).is_stream is means


@given(st.binary(max_size=60))
def test_no_body_is_an_error_of_ours(body: bytes) -> None:
    """Any bytes are a request, or the client's error."""
    try:
        request = ImageRequest.from_json("generation", body, allow_file_id=False)
    except (InvalidBody, InvalidValue):
        return
    assert request.prompt


@given(st.permutations(["size", "quality", "seed", "n"]))
def test_the_fingerprint_is_equal_for_every_retry(order: list[str]) -> None:
    """Whatever the order of keys or parts."""
    fields = {"size": "auto", "quality": "low", "seed": 7, "n": 2}
    shuffled = {name: fields[name] for name in order}
    assert from_json(shuffled).fingerprint("u", "m") == from_json(fields).fingerprint("u", "m")
    texts = [(name, str(value).encode()) for name, value in fields.items()]
    mixed = [(name, str(value).encode()) for name, value in shuffled.items()]
    assert from_form(*mixed).fingerprint("u", "m") == from_form(*texts).fingerprint("u", "m")


def test_the_fingerprint_tells_calls_apart() -> None:
    """By user, kind, model, every field, the form of the body, and the content and role of each file."""
    prints = [
        from_json({}).fingerprint("u", "m"),
        from_json({}).fingerprint("v", "m"),
        from_json({}).fingerprint("u", "n"),
        from_json({}, "edit").fingerprint("u", "m"),
        from_json({"n": 2}).fingerprint("u", "m"),
        from_json({"prompt": "a dog"}).fingerprint("u", "m"),
        from_json({"unknown": None}).fingerprint("u", "m"),
        from_form().fingerprint("u", "m"),
        from_form(files=(a_file(),)).fingerprint("u", "m"),
        from_form(files=(a_file(sha256="1" * 64),)).fingerprint("u", "m"),
        from_form(files=(a_file("mask"),)).fingerprint("u", "m"),
        from_form(files=(a_file(), a_file())).fingerprint("u", "m"),
        from_form(("x[]", b"1"), ("x[]", b"2")).fingerprint("u", "m"),
        from_form(("x[]", b"2"), ("x[]", b"1")).fingerprint("u", "m"),
        from_form(("x[]", b"2"), ("x[]", b"2")).fingerprint("u", "m"),
        from_form(("x[]", b"2")).fingerprint("u", "m"),
    ]
    assert len(set(prints)) == len(prints)


def test_an_alias_and_its_model_are_one_request() -> None:
    """The fingerprint knows the model that is meant, not the name it was called by."""
    assert from_json({"model": "alias"}).fingerprint("u", "m") == from_json({"model": "m"}).fingerprint(
        "u", "m"
    )


def test_the_ledger_gets_parameters_and_no_pictures() -> None:
    """Neither prompt nor user nor anything long: image data never reaches the index."""
    fields = {
        "size": "auto",
        "n": 2,
        "quality": None,
        "user": "someone",
        "images": [{"image_url": "data:…"}],
        "mask": {"image_url": "data:…"},
        "long": "x" * 1025,
        "deep": {"a": "x" * 1025},
        "short": "x" * 1024,
    }
    assert from_json(fields).params() == {"size": "auto", "n": 2, "short": "x" * 1024}


@pytest.mark.parametrize(
    "fields",
    [
        {"images": [{"file_id": "f"}]},
        {"images": [{"image_url": "data:"}, {"file_id": "f"}]},
        {"mask": {"file_id": "f"}},
        {"anything": {"file_id": "f"}},
    ],
)
def test_file_ids_are_refused_wherever_a_reference_may_stand(fields: dict[str, Any]) -> None:
    """They reach into the operator's own files; null is none."""
    with pytest.raises(InvalidValue) as caught:
        from_json(fields, "edit")
    assert caught.value.param == next(iter(fields))
    assert from_json({"images": [{"file_id": None, "image_url": "data:"}]}, "edit").n == 1
