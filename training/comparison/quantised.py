"""A conventional network as onnxruntime runs it in 8 bits: static quantisation, one scale a channel of weights.

Weights take 7 of the 8, so that it answers alike on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from training.data import mnist


def intensities(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the intensities that the network reads. uint8 [N, 28, 28] -> [N, 1, 28, 28]."""
    return np.asarray(mnist.firing_probabilities(images).numpy(), np.float32)


class QuantisedAnn:
    """A graph from intensities to logits, `potential`, on one thread."""

    def __init__(self, graph: Path | bytes) -> None:
        self.path = graph if isinstance(graph, Path) else Path()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        source = str(graph) if isinstance(graph, Path) else graph
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    @classmethod
    def plain(cls, graph: onnx.ModelProto) -> QuantisedAnn:
        """The graph as it is, not quantised."""
        return cls(graph.SerializeToString())

    @classmethod
    def of(cls, graph: onnx.ModelProto, path: Path, calibration: NDArray[np.uint8]) -> QuantisedAnn:
        """Quantise a graph; the ranges of its values are those that images uint8 [N, 28, 28] give."""
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

        class Images(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._left = iter(intensities(calibration))

            def get_next(self) -> dict[str, Any] | None:
                one = next(self._left, None)
                return None if one is None else {"intensities": one[None]}

        source = path.with_suffix(".float.onnx")
        onnx.save(graph, source)
        quantize_static(
            source,
            path,
            Images(),
            per_channel=True,
            # weights of 7 bits: of 8, sums overflow on processors without VNNI
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        source.unlink()
        return cls(path)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [N, 10] of images uint8 [N, 28, 28], as they come from the wire: scaled by 255."""
        scaled = images[:, None].astype(np.float32) * np.float32(1 / 255)
        return np.asarray(self._session.run(None, {"intensities": scaled})[0])

    def accuracy(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
        """Share of right answers, on what the retina sees."""
        right = 0
        for start in range(0, len(images), 100):
            seen = intensities(images[start : start + 100])
            logits = self._session.run(None, {"intensities": seen})[0]
            right += int((logits.argmax(-1) == labels[start : start + 100]).sum())
        return right / len(images)

    def robustness(self, drawn: Mapping[str, NDArray[np.uint8]], labels: NDArray[np.int64]) -> float:
        """Mean accuracy on images under all distortions."""
        return float(np.mean([self.accuracy(images, labels) for images in drawn.values()]))
