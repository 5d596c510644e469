"""Problem documents."""

from service.errors import KINDS, Problem, example


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
