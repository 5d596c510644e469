"""Handwritten digits read by a spiking neural network: in this process, or by a service over HTTP.

    network = spikehead.load()                            # or: spikehead.Client("http://127.0.0.1:8000")
    answer = network.classify("seven.png", seed=7)        # a path, bytes, a PIL image or an array
    print(answer.prediction, answer.confidence, answer.spike_counts.output)

Each name is imported when it is first used: `import spikehead` alone loads neither an engine nor a web framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spikehead.version import VERSION

if TYPE_CHECKING:
    from spikehead.errors import Problem, ServiceError
    from spikehead.library.answers import Classification, RequestList, RequestSummary, StoredRequest
    from spikehead.library.client import AsyncClient, Client
    from spikehead.library.local import Network, load
    from spikehead.model.card import ModelError

__version__ = VERSION
__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "ModelError",
    "Network",
    "Problem",
    "RequestList",
    "RequestSummary",
    "ServiceError",
    "StoredRequest",
    "__version__",
    "load",
]

_HOMES = {
    "errors": ("Problem", "ServiceError"),
    "library.answers": ("Classification", "RequestSummary", "RequestList", "StoredRequest"),
    "library.client": ("AsyncClient", "Client"),
    "library.local": ("Network", "load"),
    "model.card": ("ModelError",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"spikehead.{module}"), name)
    raise AttributeError(f"module 'spikehead' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
