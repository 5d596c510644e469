"""`spikehead spikes`: what it prints of a service's requests."""

from __future__ import annotations

import pytest
from spikehead.cli.app import EXIT_SETTINGS
from spikehead.library.answers import RequestList, StoredRequest, read
from spikehead.web.documents import examples, queries

from tests.service.cli.conftest import Service, answers, lines, run, summaries

pytestmark = pytest.mark.usefixtures("environment")


def test_recent_requests(service: Service) -> None:
    service.says({"requests": summaries(), "next": None})
    result = run("spikes", "--url", service.url + "/")
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines(result.stdout) == [
        "time (UTC)          id                       digit conf. % steps model",
        "2026-11-24 15:17:27 18a5c0d2f3b4e6a1c2d3e4f5     7   99.68     1 spiking-mha",
        "2026-01-02 02:04:05 18a5c0d2f3b4e6a1c2d3e4f6     3  >99.99     8 tiny",
    ]
    assert service.asked == ["/spikes?limit=20"]


@pytest.mark.parametrize(
    ("width", "header"),
    [
        (76, "time (UTC)          id                       digit conf. % steps model"),
        (75, "time (UTC)          id                       digit conf. % steps"),
        (40, "id                       digit conf. %"),
        (30, "id                       digit"),
    ],
)
def test_columns_that_do_not_fit_are_left_out(
    monkeypatch: pytest.MonkeyPatch, service: Service, width: int, header: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    service.says({"requests": summaries(), "next": None})
    result = run("spikes", "--url", service.url)
    assert lines(result.stdout)[0] == header
    assert all(summary["id"] in result.stdout for summary in summaries())


def test_options_of_the_list(service: Service) -> None:
    service.says({"requests": [], "next": None})
    result = run("spikes", "--url", service.url, "--limit", "1000", "--model", "a b&c", "--low-confidence")
    assert (result.exit_code, result.stdout) == (0, "no requests to a model named a b&c yet\n")
    assert service.asked == ["/spikes?limit=1000&model=a+b%26c&order=confidence"]
    assert {"limit", "model", "order"} <= set(queries.RecentQuery.model_fields)
    assert run("spikes", "--limit", "1001").exit_code == EXIT_SETTINGS
    assert run("spikes", "--limit", "0").exit_code == EXIT_SETTINGS


def test_requests_as_json(service: Service) -> None:
    service.says({"requests": summaries(), "next": None})
    assert answers(run("spikes", "--url", service.url, "--json")) == summaries()
    service.says({"requests": [], "next": None})
    assert run("spikes", "--url", service.url, "--json").stdout == ""


def test_one_request(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    service.says(examples.STORED)
    result = run("spikes", examples.ID, "--url", service.url)
    assert (result.exit_code, result.stderr) == (0, "")
    printed = lines(result.stdout)
    assert printed[:3] == [f"{examples.ID}: 7 (99.68 %)", "2026-11-24 15:17:27 UTC", ""]
    assert printed[5] == "        ▄▄▄▄▄▄▄▄▄▄▄▄"
    assert printed[14] == "           ███                     7  ████████████████████████████████▉  99.68 %"
    assert printed[18:] == [
        "steps       1 of 16: confidence 99.68 % reached 75.00 %",
        "spikes      input 89, hidden layers 1,114, output 1",
        "operations  285,744 synaptic: 262,544 additions, 23,200 products",
        "model       spiking-mha 1.0.0, engine onnxruntime",
        "seed        7, encoder bernoulli",
    ]
    assert answers(run("spikes", examples.ID, "--url", service.url, "--json")) == [examples.STORED]
    assert run("spikes", "a/b?c", "--url", service.url).exit_code == 0
    assert service.asked == [f"/spikes/{examples.ID}"] * 2 + ["/spikes/a%2Fb%3Fc"]
    monkeypatch.setenv("COLUMNS", "40")
    narrow = run("spikes", examples.ID, "--url", service.url)
    assert max(map(len, narrow.stdout.splitlines())) <= 40
    assert run("spikes", examples.ID, "--limit", "3").exit_code == EXIT_SETTINGS


def test_documents_of_the_service_are_understood() -> None:
    """The examples, against which the service's answers are tested."""
    assert read(RequestList, examples.REQUESTS).requests[0].id == examples.ID
    assert read(StoredRequest, examples.STORED).answer.prediction == 7
