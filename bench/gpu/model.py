"""What generates the tokens: a small transformer with random weights in torch, or a stand-in that only waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

_HEADS = 16
_PREFILL_SEQUENCES = 32  # at a time: the activations of more would not fit beside their keys and values


class Shape(NamedTuple):
    """A batch of requests of the same lengths, in tokens."""

    name: str
    batch: int
    prompt: int
    output: int


class Model(Protocol):
    """Generates ``shape.output`` tokens for each of a batch; each step ends when its tokens are there."""

    def generate(self, shape: Shape, stepped: Callable[[int], None]) -> None:
        """``stepped`` is called with the number of the token that was made, from 0."""


class Waiting:
    """Takes time and computes nothing: to try the script itself."""

    def generate(self, shape: Shape, stepped: Callable[[int], None]) -> None:
        """A token every few milliseconds."""
        for number in range(shape.output):
            time.sleep(0.02 if number == 0 else 0.005)
            stepped(number)


class Size(NamedTuple):
    """Of a transformer. As it stands: 0.9 · 10⁹ parameters, 131 kB of keys and values for each token."""

    layers: int = 16
    width: int = 2048
    vocabulary: int = 32_000
    device: str = "cuda"


class Transformer:
    """A decoder in bfloat16 with a cache of keys and values. ImportError without torch, or where torch sees no GPU."""

    def __init__(self, size: Size | None = None) -> None:
        import torch  # noqa: PLC0415  not every machine with a GPU has it

        self._torch, self._size = torch, size or Size()
        if self._size.device == "cuda" and not torch.cuda.is_available():
            raise ImportError("torch sees no GPU")
        torch.manual_seed(1)
        width = self._size.width
        self._embedding = self._weights(self._size.vocabulary, width)
        shapes = ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width))
        self._layers = [[self._weights(*shape) for shape in shapes] for _ in range(self._size.layers)]

    def generate(self, shape: Shape, stepped: Callable[[int], None]) -> None:
        """Prefill in slices of the batch, then one token of each at a time. torch's error where memory is too small."""
        torch, size = self._torch, self._size
        with torch.inference_mode():
            places = (size.layers, 2, shape.batch, _HEADS, shape.prompt + shape.output, size.width // _HEADS)
            cache = torch.empty(places, dtype=torch.bfloat16, device=size.device)
            prompts = torch.randint(size.vocabulary, (shape.batch, shape.prompt), device=size.device)
            starts = range(0, shape.batch, _PREFILL_SEQUENCES)
            parts = [slice(start, start + _PREFILL_SEQUENCES) for start in starts]
            tokens = torch.cat([self._step(prompts[part], cache[:, :, part], 0) for part in parts])
            for number in range(shape.output):
                if number:
                    tokens = self._step(tokens, cache, shape.prompt + number - 1)
                tokens[0].item()  # waits until the token is there
                stepped(number)

    def _weights(self, *shape: int) -> Any:
        torch = self._torch
        return torch.randn(shape, dtype=torch.bfloat16, device=self._size.device) * shape[-1] ** -0.5

    def _step(self, tokens: Any, cache: Any, at: int) -> Any:
        """The next token of each sequence. ``tokens``: batch × length; ``at``: how many the cache holds already."""
        functional, width = self._torch.nn.functional, self._size.width
        batch, length = tokens.shape
        hidden = self._embedding[tokens]
        for layer, (attend, merge, widen, narrow) in enumerate(self._layers):
            normal = functional.layer_norm(hidden, (width,))
            split = functional.linear(normal, attend).view(batch, length, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
            cache[layer, :, :, :, at : at + length] = split[1:]
            keys, values = cache[layer, :, :, :, : at + length]
            mixed = functional.scaled_dot_product_attention(split[0], keys, values, is_causal=length > 1)
            hidden = hidden + functional.linear(mixed.transpose(1, 2).reshape(batch, length, width), merge)
            normal = functional.layer_norm(hidden, (width,))
            hidden = hidden + functional.linear(functional.gelu(functional.linear(normal, widen)), narrow)
        return functional.linear(hidden[:, -1], self._embedding).argmax(-1, keepdim=True)
