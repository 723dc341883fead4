"""The trunk of a backbone as a backbone itself, so that the feature store keeps its activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Backbone
from vdeploy.models.splitting import layers_by_block
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["Trunk"]


class Trunk(Backbone[Any]):
    """What comes before the last blocks of a backbone: ``frames uint8[B, T, H, W, 3]`` to ``float32[B, s, D]``.

    An activation of a clip is a row of s steps in time with all positions and channels of a step side by side. In the
    feature store it has a key of its own, which names the block that the trunk ends before.

    Args:
        whole: The backbone.
        count: How many of its last blocks are left out.
        spec: The clips that it will see.
        weights: The backbone's weights.
        seed: Seed of random weights, as of `vdeploy.models.extractor.FeatureExtractor`.
        key: What its activations depend on besides the clip and the weights, as `cache_key` of the whole has it, where
            a part of that concerns the last blocks alone.

    Attributes:
        whole: The backbone.
        network: Its network, which shares the layers of trunk and tail.
        tail: The last blocks: ``float32[N, D]`` or ``float32[B, s, D]`` to features.
    """

    def __init__(
        self, whole: Backbone[Any], count: int, spec: ClipSpec, weights: Weights, *, seed: int = 0, key: str = ""
    ) -> None:
        super().__init__(whole.settings)
        load_keras().utils.set_random_seed(seed)
        parts = whole.split(spec, weights, count)
        self.whole, self.spec, self.count, self._key = whole, spec, count, key or whole.cache_key
        self.network, self.tail, self._trunk = parts.network, parts.tail, parts.trunk
        self._pretrained = self.tail.get_weights()
        # What a class declares for other backbones is a matter of each instance here.
        self.name, self.title, self.settings_type = whole.name, whole.title, whole.settings_type  # type: ignore[misc]
        self.granularity = whole.granularity  # type: ignore[misc]

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks that are left out, from the first to the last."""
        return self.whole.blocks[-self.count :]

    @property
    def layers(self) -> list[list[keras.Layer]]:
        """The layers with weights of each block that is left out."""
        return list(layers_by_block(self.network, self.blocks).values())

    def restore(self) -> None:
        """Put the weights of the pre-training back into the blocks."""
        self.tail.set_weights(self._pretrained)

    def another_tail(self) -> keras.Model:
        """Build the tail once more, with random weights and the present dtype policy of Keras."""
        return self.whole.split(self.spec, Weights("random", None, ""), self.count).tail

    def feature_shape(self, frames: int) -> tuple[int, int]:
        """Return (s, D)."""
        *steps, dim = self._trunk.output_shape[1:]
        return (steps[0] if steps else frames), dim

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Return the trunk."""
        del spec, weights
        return self._trunk

    def load(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Return the trunk, whose weights are in place."""
        return self.build(spec, weights)

    def check(self, spec: ClipSpec) -> None:
        """Refuse clips that the backbone cannot take."""
        self.whole.check(spec)

    @property
    def cache_key(self) -> str:
        """The key of the backbone, and the first block that is left out."""
        return f"{self._key} trunk before {self.blocks[0]}"
