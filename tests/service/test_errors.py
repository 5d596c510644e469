"""Problem documents."""

import re

from spikehead.errors import KINDS, Problem, example
from spikehead.settings import Settings
from spikehead.web.documents.explanations import EXPLANATIONS


def test_document_of_a_problem() -> None:
    problem = Problem("wrong-size", "784 bytes", "783 bytes")
    assert problem.document("abc") == {
        "type": "/problems/wrong-size",
        "title": "The number of bytes is wrong",
        "status": 422,
        "detail": "expected 784 bytes, got 783 bytes",
        "expected": "784 bytes",
        "received": "783 bytes",
        "request_id": "abc",
    }
    assert str(problem) == "The number of bytes is wrong: expected 784 bytes, got 783 bytes"


def test_document_names_the_image_of_a_batch() -> None:
    document = Problem("blank-image", "ink", "none", image=3).document("abc")
    assert document["image"] == 3
    assert document["detail"] == "image 3: expected ink, got none"


def test_every_kind_has_a_usable_status_and_texts() -> None:
    for kind, about in KINDS.items():
        assert kind == kind.lower().replace("_", "-").replace(" ", "-")
        assert 400 <= about.status < 600
        assert about.title and about.expected and about.received
        assert example(kind)["status"] == about.status


def test_every_kind_is_explained() -> None:
    assert list(EXPLANATIONS) == [kind for kind in KINDS if kind in EXPLANATIONS]
    assert set(EXPLANATIONS) == set(KINDS)
    for kind, (cause, remedy) in EXPLANATIONS.items():
        for text in (cause, remedy):
            assert text[0].isupper() and text.endswith("."), kind
        named = set(re.findall(r"SPIKEHEAD_([A-Z_]+)", cause + remedy))
        assert named <= {name.upper() for name in Settings.model_fields}, kind


def test_what_is_expected_and_what_came_read_as_a_sentence() -> None:
    """`expected X, got Y`: both are things, and nothing "is away"."""
    for kind, about in KINDS.items():
        assert not re.match(r"(it|they|the \w+ is)\b", about.received), kind
