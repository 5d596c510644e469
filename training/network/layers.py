"""Layers of spikes as a card describes them: shape, and synapses that a spike drives."""

from __future__ import annotations

from spikehead.model.card import FanOut, Layer

from training.network.spiking import CLASSES, SIDE, NetworkConfig


def layers_of(config: NetworkConfig) -> dict[str, Layer]:
    """Describe each layer of spikes, in layer order.

    Queries meet the d columns of K^T V. A key spike meets the value spikes of its token and head, whose
    number varies, so keys and values are counted by coincidences and have no fan-out of their own.
    """
    tokens, channels, hidden = config.tokens, config.channels, config.channels * config.mlp_ratio
    result: list[Layer] = []

    def add(name: str, shape: list[int], targets: int) -> None:
        result.append(Layer(name=name, shape=shape, fan_out=FanOut(targets=targets)))

    def add_map(name: str, depth: int, side: int, targets: int, kernel: int, stride: int) -> None:
        """Padding is that of `Synapses`."""
        _, seen = windows(side, kernel, stride, (kernel - 1) // 2)
        fan_out = FanOut(targets=targets, rows=seen, columns=seen)
        result.append(Layer(name=name, shape=[depth, side, side], fan_out=fan_out))

    if config.kind == "glm":
        add("input", [1, SIDE, SIDE], CLASSES)
    else:
        first, second = config.stem
        add_map("input", 1, SIDE, first, kernel=5, stride=2)
        add_map("stem1", first, SIDE // 2, second, kernel=3, stride=1)
        add_map("stem2", second, SIDE // 2, channels, kernel=3, stride=2)
        for number in range(1, config.blocks + 1):
            name = f"block{number}."
            if config.attends(number):
                add(name + "attention_in", [tokens, channels], 3 * channels)
                add(name + "query", [tokens, channels], channels // config.heads)
                add(name + "key", [tokens, channels], 0)
                add(name + "value", [tokens, channels], 0)
                add(name + "attention", [tokens, channels], channels)
            add(name + "mlp_in", [tokens, channels], hidden)
            add(name + "mlp_hidden", [tokens, hidden], channels)
        add("tokens", [tokens, channels], CLASSES)
    add("output", [CLASSES], 1)
    return {layer.name: layer for layer in result}


def windows(side: int, kernel: int, stride: int, padding: int) -> tuple[int, list[int]]:
    """Count the windows of a convolution along one side, and those that see each of its places."""
    count = (side + 2 * padding - kernel) // stride + 1
    return count, [sum(0 <= i + padding - o * stride < kernel for o in range(count)) for i in range(side)]
