"""How images and answers are packed: small, each on its own, and readable for ever."""

from __future__ import annotations

import hashlib
import threading
import zlib

import numpy as np
import pytest
import zstandard
from spikehead.records import dictionary
from spikehead.records.packing import UNPACKING_ERRORS, answer_of, packed_answers, packed_pixels, pixels_of

ANSWER = b'{"id":"18eb2aee6caf7b06868322f6",' + dictionary.ANSWER[34:].replace(b"1", b"5")


def image(lit: int) -> bytes:
    """So many pixels that are not 0, anywhere."""
    values = np.zeros(784, np.uint8)
    values[np.random.default_rng(lit).permutation(784)[:lit]] = np.arange(lit) % 255 + 1
    return values.tobytes()


def test_images_are_packed_each_on_its_own() -> None:
    """784 bytes at the most; with a fifth of them lit, as in MNIST, a third."""
    lit = [0, 1, 150, 684, 685, 686, 784, 0]
    images = [image(number) for number in lit]
    packed = packed_pixels(images)
    assert [len(one) for one in packed] == [min(1 + 98 + number, 784) for number in lit]
    assert [pixels_of(one) for one in packed] == images
    assert packed_pixels(images[2:3]) == packed[2:3]


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 784 pixels, got 783"):
        packed_pixels([bytes(784), bytes(783)])


@pytest.mark.parametrize("answers", [[], [b""], [b"spike" * 1000], [ANSWER, b"", b"{}", ANSWER[::-1]]])
def test_answers_are_packed_each_on_its_own(answers: list[bytes]) -> None:
    packed = packed_answers(answers)
    assert [answer_of(one) for one in packed] == answers
    assert [packed_answers([one])[0] for one in answers] == packed


def test_the_dictionary_halves_an_answer_and_never_changes() -> None:
    assert 2 * len(packed_answers([ANSWER])[0]) < len(zlib.compress(ANSWER))
    digest = hashlib.sha256(dictionary.ANSWER).hexdigest()
    assert digest == "9439a1493c5c5a83136913037dd2ede5651d979a897985906b31f506f1552811"


def test_what_was_packed_once_can_be_read() -> None:
    """As records of earlier releases hold them: these bytes must not change."""
    kept = bytes.fromhex(KEPT)
    assert answer_of(kept) == b'{"id":"18eb2aee6caf7b06868322f6","model":"spiking-mha","prediction":7}'


KEPT = "28b52ffd2046350100d0313865623261656536636166376230363836383332326636377d03000e640e00d6e090652b"


def test_what_was_packed_with_zlib_can_be_read() -> None:
    packing = zlib.compressobj(2, zlib.DEFLATED, 12, 5, zlib.Z_DEFAULT_STRATEGY, dictionary.ANSWER)
    assert answer_of(packing.compress(ANSWER) + packing.flush()) == ANSWER
    assert answer_of(zlib.compress(b"{}")) == b"{}"
    assert pixels_of(zlib.compress(image(150))) == image(150)


def test_what_is_damaged_is_not_read() -> None:
    packed = packed_answers([ANSWER])[0]
    for cut in range(len(packed)):
        with pytest.raises(UNPACKING_ERRORS):
            answer_of(packed[:cut])
    assert answer_of(packed) == ANSWER  # what was damaged leaves nothing behind
    for huge in (zstandard.ZstdCompressor().compress(bytes(1 << 24)), zlib.compress(bytes(1 << 24))):
        with pytest.raises(UNPACKING_ERRORS):
            answer_of(huge)
    with pytest.raises(UNPACKING_ERRORS):
        pixels_of(zlib.compress(bytes(1 << 24)))


def test_threads_may_pack_at_once() -> None:
    answers = [ANSWER + str(number).encode() for number in range(200)]
    found: list[bool] = []

    def work() -> None:
        found.append(all([answer_of(one) for one in packed_answers(answers)] == answers for _ in range(20)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
