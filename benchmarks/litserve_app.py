"""LitServe with LeNet-5 under onnxruntime, as its documentation shows it: `python -m benchmarks.litserve_app PORT`."""

import base64
import io
import sys
from typing import Any

import litserve
import numpy as np
from PIL import Image

from benchmarks.contenders import lenet5, session


class LeNet(litserve.LitAPI):  # type: ignore[misc]
    """A PNG in base64 in, a class and probabilities out. One worker. LitServe reads JSON and forms, no bare bytes."""

    def setup(self, device: str) -> None:
        self.session = session(lenet5())

    def decode_request(self, request: dict[str, str]) -> Any:
        picture = Image.open(io.BytesIO(base64.b64decode(request["image"])))
        return np.asarray(picture, np.float32).reshape(1, 1, 28, 28) / np.float32(255)

    def predict(self, pixels: Any) -> Any:
        return self.session.run(None, {"intensities": pixels})[0][0]

    def encode_response(self, scores: Any) -> dict[str, Any]:
        exponentials = np.exp(scores - scores.max())
        probabilities = exponentials / exponentials.sum()
        best = int(probabilities.argmax())
        return {
            "prediction": best,
            "confidence": float(probabilities[best]),
            "probabilities": probabilities.tolist(),
        }


def main() -> None:
    server = litserve.LitServer(LeNet(api_path="/classify"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
