"""EfficientNet-Lite: its shapes, its published weights, and files that hold none."""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from vdeploy.core.errors import WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.backbones.efficientnet_lite.checkpoint import load_checkpoint
from vdeploy.models.backbones.efficientnet_lite.network import build_network
from vdeploy.models.backbones.efficientnet_lite.torch_archive import read_state_dict
from vdeploy.models.backbones.efficientnet_lite.weights import FILES
from vdeploy.models.weights.find import find_weights

NORMALIZATIONS = {"conv_stem": "_bn0", "conv_head": "_bn1", "expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}


@pytest.fixture(scope="module")
def network():
    return build_network("lite0", 32)


@pytest.fixture(scope="module")
def state(network) -> dict[str, np.ndarray]:
    """Random weights with PyTorch's names and axes."""
    rng = np.random.default_rng(0)
    state = {}
    for layer in network.layers:
        if not layer.weights:
            continue
        kernel, bias = layer.get_weights()
        order = (2, 3, 0, 1) if "depthwise" in layer.name else (3, 2, 0, 1)
        parent, _, name = published(layer.name).rpartition(".")
        state[f"{published(layer.name)}.weight"] = rng.normal(0, 0.1, kernel.shape).transpose(order).astype(np.float32)
        suffix = next(value for key, value in NORMALIZATIONS.items() if key in name)
        normalization = f"{parent}.{suffix}".removeprefix(".")
        for key in ("weight", "bias", "running_mean"):
            state[f"{normalization}.{key}"] = rng.normal(size=bias.shape).astype(np.float32)
        state[f"{normalization}.running_var"] = rng.uniform(0.5, 2, bias.shape).astype(np.float32)
        state[f"{normalization}.num_batches_tracked"] = np.array(7)
    return state


def published(name: str) -> str:
    """The name of a layer in the published weights: ``blocks.4.project_conv`` is ``_blocks.4._project_conv``."""
    return ".".join(part if part.isdigit() else f"_{part}" for part in name.split("."))


def torch_archive(state: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What PyTorch before 1.6 writes for a state, each tensor with its strides."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def rebuild(*_: object) -> None:
        """Only its name is written."""

    rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = "torch._utils", *("_rebuild_tensor_v2",) * 2
    utils._rebuild_tensor_v2 = rebuild
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Storage:
        def __init__(self, key: str, array: np.ndarray) -> None:
            self.kind = torch.FloatStorage if array.dtype == np.float32 else torch.LongStorage
            self.key, self.count = key, array.size

    class Tensor:
        def __init__(self, storage: Storage, array: np.ndarray) -> None:
            self.arguments = (storage, 0, array.shape, tuple(s // array.itemsize for s in array.strides), False)

        def __reduce__(self):
            return rebuild, (*self.arguments, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> tuple | None:
            return ("storage", value.kind, value.key, "cpu", value.count, None) if isinstance(value, Storage) else None

    tensors = OrderedDict(
        (name, Tensor(Storage(str(number), array), array)) for number, (name, array) in enumerate(state.items())
    )
    out = io.BytesIO()
    order = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for value in (0x1950A86A20F9469CFC6C, 1001, order, tensors, [str(number) for number in range(len(state))]):
        Pickler(out, protocol=2).dump(value)
    for array in state.values():
        out.write(array.size.to_bytes(8, "little") + np.ravel(array, order="K").tobytes())
    return out.getvalue()


@pytest.fixture
def checkpoint(state, tmp_path, monkeypatch) -> Path:
    path = tmp_path / "own.pth"
    path.write_bytes(torch_archive(state, monkeypatch))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "published"), [("lite0", 4_652_008), ("lite1", 5_416_680), ("lite2", 6_092_072)])
def test_as_many_parameters_as_published(variant, published):
    """The published networks have a gain for each channel besides, which is folded into the convolutions here."""
    model = build_network(variant, 224, classes=1000)
    gains = sum(layer.bias.shape[0] for layer in model.layers if layer.weights and layer.name != "fc")
    assert model.count_params() + gains == published


@pytest.mark.parametrize("size", [32, 96])
def test_1280_features_a_frame(size):
    model = build_network("lite0", size)
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, 1280)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    features = model(pixels).numpy()
    assert np.abs(features[0] - features[1]).max() > 1e-2  # random weights neither vanish nor explode
    assert features.max() < 1e3


def test_tensors_are_read_with_their_strides(state, checkpoint):
    read = read_state_dict(checkpoint)
    assert list(read) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("name", ["conv_stem", "blocks.4.depthwise_conv", "blocks.4.project_conv"])
def test_batch_normalisation_is_folded_exactly(network, state, checkpoint, name):
    load_checkpoint(network, checkpoint)
    folded = network.get_layer(name)
    layers = load_keras().layers
    options = {"strides": folded.strides, "padding": "same", "use_bias": False}
    weight = state[f"{published(name)}.weight"]
    if "depthwise" in name:
        convolution, kernel = layers.DepthwiseConv2D(folded.kernel_size, **options), weight.transpose(2, 3, 0, 1)
    else:
        convolution = layers.Conv2D(folded.filters, folded.kernel_size, **options)
        kernel = weight.transpose(2, 3, 1, 0)
    normalization = layers.BatchNormalization(epsilon=1e-3)
    x = np.random.default_rng(1).normal(size=(2, 9, 9, folded.input.shape[-1])).astype(np.float32)
    normalization(convolution(x))
    convolution.set_weights([kernel])
    parent, _, conv = published(name).rpartition(".")
    suffix = next(value for key, value in NORMALIZATIONS.items() if key in conv)
    prefix = f"{parent}.{suffix}".removeprefix(".")
    normalization.set_weights([state[f"{prefix}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")])
    expected = normalization(convolution(x), training=False).numpy()
    np.testing.assert_allclose(folded(x).numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ("text", "is no state of a PyTorch module"),
        ("empty", "is no state of a PyTorch module"),
        ("cut", "a storage is cut short"),
        ("zip", "is no state of a PyTorch module"),
        ("other", "another magic number"),
    ],
)
def test_a_file_that_is_no_state(checkpoint, variant, reason):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(
        {
            "text": b"no weights\n",
            "empty": b"",
            "cut": content[:-100],
            "zip": b"PK\x03\x04" + content,
            "other": pickle.dumps(1) + content,
        }[variant]
    )
    with pytest.raises(WeightsError, match=reason):
        read_state_dict(checkpoint)


def test_strides_that_leave_the_storage_are_refused(state, tmp_path, monkeypatch):
    name = "_conv_head.weight"
    wide = np.lib.stride_tricks.as_strided(state[name], strides=[4 * size for size in state[name].strides])
    path = tmp_path / "own.pth"
    monkeypatch.setattr(np, "ravel", lambda array, **_: np.zeros(array.size, array.dtype))
    path.write_bytes(torch_archive({name: wide}, monkeypatch))
    with pytest.raises(WeightsError, match="is no state of a PyTorch module"):
        read_state_dict(path)


def test_a_state_runs_no_code(checkpoint, tmp_path):
    trace = tmp_path / "executed"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (trace,))

    checkpoint.write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(WeightsError, match=r"it names (pathlib|__builtin__|builtins)\."):
        read_state_dict(checkpoint)
    assert not trace.exists()


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state_dict(tmp_path)


def test_weights_of_another_variant_are_refused(checkpoint):
    with pytest.raises(WeightsError, match=r"holds no weights for efficientnet_lite1 .*each variant, lite0 to lite2"):
        load_checkpoint(build_network("lite1", 32), checkpoint)


@pytest.fixture(scope="module")
def imagenet() -> Path:
    path = find_weights("lite0", FILES).path
    assert path is not None
    return path


@pytest.mark.slow
def test_values_are_those_of_an_independent_implementation(imagenet):
    """The expected values were computed in JAX with explicit padding and batch normalisation that is not folded."""
    network, classifier = (build_network("lite0", 64, classes=classes) for classes in (0, 1000))
    load_checkpoint(network, imagenet)
    load_checkpoint(classifier, imagenet)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)[None].astype(np.float32)
    features, logits = network(image).numpy()[0], classifier(image).numpy()[0]
    np.testing.assert_allclose(features[:4], [0.853286, 0, 2.088775, 0], atol=1e-4)
    assert features.sum() == pytest.approx(188.5015, rel=1e-4)
    np.testing.assert_allclose(logits[:4], [-1.599629, 0.132204, -0.030197, 0.306869], atol=1e-3)
    assert list(logits.argsort()[::-1][:3]) == [111, 650, 490]


@pytest.mark.slow
@pytest.mark.parametrize(("picture", "label"), [("chelsea", 285), ("coffee", 967)])
@pytest.mark.parametrize("variant", ["lite0", "lite1", "lite2"])
def test_known_pictures_are_recognised(variant, picture, label):
    """scikit-image's cat is an Egyptian cat, its cup an espresso."""
    cv2 = pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data")
    network = build_network(variant, 224, classes=1000)
    path = find_weights(variant, FILES).path
    assert path is not None
    load_checkpoint(network, path)
    image = cv2.resize(getattr(data, picture)(), (224, 224), interpolation=cv2.INTER_AREA)
    assert int(network(image[None].astype(np.float32)).numpy().argmax()) == label
