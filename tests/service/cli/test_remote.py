"""`spikehead spikes`: addresses, keys, and services that do not answer."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from spikehead.cli.app import EXIT_SERVICE, EXIT_SETTINGS
from spikehead.errors import example

from tests.service.cli.conftest import Service, run
from tests.service.serving import serving, until

pytestmark = pytest.mark.usefixtures("environment")


def refused(*arguments: str) -> str:
    result = run("spikes", *arguments)
    assert (result.exit_code, result.stdout) == (EXIT_SERVICE, "")
    assert EXIT_SERVICE == 5
    return result.stderr


def test_a_problem_is_shown_in_words(service: Service) -> None:
    service.says(example("unknown-request"), 404)
    words = f"{example('unknown-request')['title']}: {example('unknown-request')['detail']}"
    assert refused("42", "--url", service.url, "--json") == f"spikehead: {service.url}: {words}\n"
    service.says(b"<html>Bad Gateway</html>", 502)
    assert refused("--url", service.url) == (
        f"spikehead: expected an answer from the service at {service.url}, got status 502 Bad Gateway\n"
    )


def test_no_service() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound, but nobody listens
        message = refused("--url", url)
    assert message == f"spikehead: expected a service at {url}, got: Connection refused\n"


def test_a_service_that_hangs_up_or_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr("spikehead.cli.spikes.TIMEOUT", 0.2)
        assert refused("--url", url) == (
            f"spikehead: expected an answer from the service at {url} within 0.2 s, got none\n"
        )
        listener.accept()[0].close()
        hang_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hang_up.start()
        assert refused("--url", url).startswith(f"spikehead: expected a service at {url}, got: ")
        hang_up.join()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"<html>",
            "expected an answer from the service at {}, got another program's (the answer: Invalid JSON: ",
        ),
        (
            b'{"a": 1}',
            "expected an answer from the service at {}, got another program's (requests: Field required)",
        ),
        (
            b"[]",
            "expected an answer from the service at {}, got another program's "
            "(the answer: Input should be an object)",
        ),
    ],
)
def test_another_program_answers(service: Service, content: bytes, message: str) -> None:
    service.says(content)
    for json_too in ([], ["--json"]):
        said = refused("--url", service.url, *json_too)
        assert said.startswith(f"spikehead: {message.format(service.url)}") and said.count("\n") == 1


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    service.says({"requests": [], "next": None})
    assert run("spikes", "--url", service.url).exit_code == 0


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://a", "http://", "http://a:b", "http://a:0", "http://a?b", "http://a b"],
)
def test_addresses_that_are_none(url: str) -> None:
    result = run("spikes", "--url", url)
    assert (result.exit_code, result.stdout) == (EXIT_SETTINGS, "")
    assert result.stderr == (
        "spikehead: An option has an invalid value: expected url: an address such as http://127.0.0.1:8000 or "
        f"unix:/PATH, got {url!r}\n"
    )


@pytest.mark.parametrize("key", ["a\nb", "a\x00b"])
def test_a_key_that_is_no_line_is_refused(key: str) -> None:
    result = run("spikes", "--key", key)
    assert (
        result.exit_code == EXIT_SETTINGS
        and "expected key: an API key of printable characters" in result.stderr
    )


def test_a_key_in_any_letters(models_folder: Path, tmp_path: Path) -> None:
    with serving(models_folder, API_KEYS="clé", DATABASE_URL=f"sqlite:///{tmp_path}/keys.db") as (port, _):
        until(port, "/health/ready")
        url = f"http://127.0.0.1:{port}"
        assert run("spikes", "--url", url, "--key", "clé").exit_code == 0
        assert run("spikes", "--url", url, "--key", "cle").exit_code == EXIT_SERVICE
