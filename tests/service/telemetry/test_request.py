"""Accept headers: the media type that a request prefers, by weights."""

import pytest
from spikehead.telemetry.request import prefers

NPZ, JSON = "application/x-npz", "application/json"


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("", False),
        ("*/*", False),  # whatever there is: what the route gives by itself
        (JSON, False),
        (NPZ, True),
        (NPZ.upper(), True),
        (f"{JSON}, {NPZ}", True),  # both weigh 1
        (f"{NPZ}, {JSON}", True),
        (f"{JSON};q=0.5, {NPZ};q=0.5", True),
        (f"{JSON};q=0.5, {NPZ};q=0.4", False),
        (f"{JSON};q=0.4, {NPZ};q=0.5", True),
        (f"{NPZ};q=0.001", True),
        (f"{NPZ};q=0", False),
        (f"{NPZ};q=0, {JSON};q=0", False),
        (f"{NPZ};q=much", False),
        (f"{NPZ}; version=1 ; q=0.2, text/html", True),
    ],
)
def test_the_type_that_is_asked_for_wins_a_tie(accept: str, preferred: bool) -> None:
    assert prefers(accept, NPZ, JSON) is preferred
