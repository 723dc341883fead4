"""Pruning removes whole channels, fits the rest in closed form, and leaves an ordinary run."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from training.methods.pruning import layerwise
from training.methods.pruning import prune_run as module
from training.methods.pruning.channel_graph import ChannelGraph
from training.methods.pruning.layerwise import prune_layers
from training.methods.pruning.prune_run import prune_run, prune_weights
from training.methods.pruning.reconstruction import NormalEquations, choose_channels
from training.methods.pruning.widths import STEP, choose_widths, flops_share
from training.recipe import load_recipe, recipe_of_run
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.run import BACKBONE, Run
from vdeploy.core.errors import RecipeError, RunError, UserError, WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.export.exporter import export_run
from vdeploy.export.onnx.external_weights import open_onnx
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats
from vdeploy.models.backbones.i3d.network import CONVOLUTIONS as I3D_WIDTHS
from vdeploy.models.backbones.i3d.network import build_network
from vdeploy.models.backbones.vgg19.feature_layers import CONVOLUTIONS as VGG19_WIDTHS
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec

KEEP = 0.2
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def pruned(tiny_run: Run, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`tiny_run` at 20 % of its operations; read only."""
    return prune_run(tiny_run.root, tmp_path_factory.mktemp("runs") / "pruned", keep=KEEP, store_root=store)


@pytest.fixture(scope="module")
def bundle(pruned: Run, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "pruned"
    return export_run(pruned, parse_formats("onnx-fp32"), out, options=ExportOptions(store_root=store)).bundle


def convolutions(bundle: Bundle) -> list[tuple[int, ...]]:
    """Shapes of the kernels in the ONNX file, outputs and inputs first."""
    graph = open_onnx(bundle.path(bundle.artifact("extractor", "onnx-fp32"))).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return [shapes[node.input[1]] for node in graph.node if node.op_type == "Conv"]


BACKBONES = {
    "vgg19": {"name": "vgg19", "layer": "avg45"},
    "i3d": {"name": "i3d"},
}


@functools.cache
def graph_of(name: str, size: int) -> ChannelGraph:
    """A whole network with random weights."""
    backbone = backbone_of({**BACKBONES[name], "weights": "random"})
    return ChannelGraph(backbone.build(ClipSpec(frames=16, size=size), Weights("random", None, "")))


@pytest.mark.parametrize("name", BACKBONES)
def test_the_graph_has_the_convolutions_of_the_settings(name: str) -> None:
    graph, settings = graph_of(name, 32), backbone_of(BACKBONES[name]).settings
    assert graph.widths == settings.convolutions
    assert set(graph.features) == set(settings.features)
    read = {consumer for group in graph.groups for consumer in group.consumers}
    assert len(read) == len(graph.widths) - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("keep", [0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9, 1.0])
def test_the_widths_reach_the_share(name: str, keep: float, size: int) -> None:
    graph = graph_of(name, size)
    widths = choose_widths(keep, graph)
    assert keep - 0.02 <= flops_share(widths, graph) <= keep
    assert all(width % STEP == 0 and STEP <= width <= graph.widths[name] for name, width in widths.items())
    assert all(widths[name] == graph.widths[name] for name in graph.features)
    assert (widths == graph.widths) is (keep == 1)


ONE = np.zeros(8, np.int64)
"""All eight channels come from one convolution."""


def equations(*, noise: float = 0.0) -> tuple[NormalEquations, Any, Any, Any]:
    """Patches of eight channels, of which the last two give what the first and the third do, times a factor."""
    random = np.random.default_rng(0)
    patches, kernel = random.normal(size=(4000, 8, 9)), random.normal(size=(8, 9, 5))
    for copy, channel, factor in ((6, 0, 0.5), (7, 2, -2)):
        patches[:, copy] = patches[:, channel] + noise * random.normal(size=(4000, 9))
        kernel[copy] = factor * kernel[channel]
    outputs = np.einsum("nck,cko->no", patches, kernel) + 3
    found = NormalEquations(kernel.astype(np.float32))
    found.add(patches.astype(np.float32), outputs.astype(np.float32))
    return found, patches, kernel, outputs


def test_channels_that_others_can_replace_go_first_and_are_made_up_for() -> None:
    found, patches, _, outputs = equations()
    kept = choose_channels([found], ONE, [6])
    assert len({0, 6} & set(kept)) == len({2, 7} & set(kept)) == 1
    assert {1, 3, 4, 5} <= set(kept)
    kernel, bias = found.solve(kept)
    np.testing.assert_allclose(np.einsum("nck,cko->no", patches[:, kept], kernel) + bias, outputs, atol=0.1)


def test_the_choice_is_that_of_the_smallest_error_and_the_kernel_that_of_least_squares() -> None:
    found, patches, weights, outputs = equations(noise=0.7)
    parts = np.einsum("nck,cko->cno", patches, weights)

    def error(x: Any) -> float:
        x, y = x - x.mean(axis=0), outputs - outputs.mean(axis=0)
        x, y = (x.reshape(-1, x.shape[-1]), y.ravel()) if x.ndim == 3 else (x, y)
        return float(np.square(x @ np.linalg.lstsq(x, y, rcond=None)[0] - y).sum())

    kept = choose_channels([found], ONE, [7])
    errors = [error(np.moveaxis(np.delete(parts, channel, axis=0), 0, -1)) for channel in range(8)]
    assert set(range(8)) - set(kept) == {int(np.argmin(errors))}
    kernel, bias = found.solve(kept)
    left = float(np.square(np.einsum("nck,cko->no", patches[:, kept], kernel) + bias - outputs).sum())
    assert left == pytest.approx(error(patches[:, kept].reshape(4000, -1)), rel=1e-3)


def test_without_a_change_the_kernel_stays() -> None:
    found, _, kernel, _ = equations(noise=0.7)
    solved, bias = found.solve(np.arange(8))
    np.testing.assert_allclose(solved, kernel, atol=1e-3)
    np.testing.assert_allclose(bias, 3, atol=1e-3)


def test_channels_are_chosen_for_all_convolutions_together_and_as_many_of_each_as_asked_for() -> None:
    found, *_ = equations(noise=0.7)
    random = np.random.default_rng(1)
    kernel = random.normal(size=(8, 1, 3)) * ([[[0.01]]] * 4 + [[[10]]] * 4)
    patches = random.normal(size=(4000, 8, 1))
    other = NormalEquations(kernel.astype(np.float32))
    other.add(patches.astype(np.float32), np.einsum("nck,cko->no", patches, kernel).astype(np.float32))
    assert list(choose_channels([other], ONE, [4])) == [4, 5, 6, 7]
    assert list(choose_channels([found], ONE, [4])) != [4, 5, 6, 7]
    both = choose_channels([found, other], ONE, [6])
    assert {4, 5, 6, 7} <= set(both)
    owners = np.repeat([0, 1], 4)
    kept = choose_channels([found, other], owners, [3, 1])
    assert np.bincount(owners[kept]).tolist() == [3, 1]
    assert list(choose_channels([found, other], owners, [4, 4])) == list(range(8))


@pytest.mark.slow
def test_the_channels_are_gone_from_the_onnx_file(bundle: Bundle, pruned: Run) -> None:
    channels = pruned.info.stage("extractor").settings["channels"]
    assert sum(channels) < sum(VGG19_WIDTHS.values())
    assert [shape[0] for shape in convolutions(bundle)] == list(channels)
    assert [shape[1] for shape in convolutions(bundle)] == [3, *channels[:-1]]


@pytest.mark.slow
def test_the_operations_of_the_exported_graph_fall_to_the_share(bundle: Bundle, tiny_bundle_dir: Path) -> None:
    whole = Bundle(tiny_bundle_dir).manifest.extractor.flops
    assert whole
    assert (bundle.manifest.extractor.flops or 0) / whole == pytest.approx(KEEP, abs=0.02)


@pytest.mark.slow
def test_the_features_are_nearer_to_the_original_than_those_of_random_kernels(tiny_run: Run, pruned: Run) -> None:
    whole, found = tiny_run.extractor().extract(FRAMES), pruned.extractor().extract(FRAMES)
    random = FeatureExtractor(pruned.backbone, Weights("random", None, ""), pruned.spec).extract(FRAMES)
    assert np.linalg.norm(found - whole) < 0.5 * np.linalg.norm(whole)
    assert np.linalg.norm(found - whole) < 0.5 * np.linalg.norm(random - whole)


@pytest.mark.slow
def test_it_is_an_ordinary_run_with_weights_of_its_own(pruned: Run, bundle: Bundle, tmp_path: Path) -> None:
    stage = pruned.info.stage("extractor")
    assert (stage.architecture, stage.file, stage.settings["weights"]) == ("vgg19", BACKBONE, "random, pruned")
    moved = Run.load(shutil.copytree(pruned.root, tmp_path / "moved"))
    assert moved.weights().path == tmp_path / "moved" / BACKBONE
    assert bundle.manifest.extractor.model == f"vgg19_{stage.sha256[:8]}_features"
    assert bundle.manifest.classifier.model == "lstm_classifier"
    assert not list(pruned.root.parent.glob("*.pruning"))
    assert (pruned.root / "clips.csv").read_bytes() == (moved.root / "clips.csv").read_bytes()
    with pytest.raises(RunError, match="holds its backbone itself; leave --weights out"):
        moved.weights("random")
    with (tmp_path / "moved" / BACKBONE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match="is not the extractor of this run"):
        Run.load(moved.root)


@pytest.mark.slow
def test_everything_kept_is_the_identity(tiny_run: Run, tmp_path: Path) -> None:
    weights, channels = prune_weights(tiny_run, 1.0, tmp_path / "work")
    assert channels == tuple(VGG19_WIDTHS.values())
    backbone = backbone_of({"name": "vgg19", "weights": "random", "channels": channels})
    same = FeatureExtractor(backbone, weights, tiny_run.spec)
    np.testing.assert_array_equal(same.extract(FRAMES), tiny_run.extractor().extract(FRAMES))


class Small(NamedTuple):
    """A network like a backbone with a part of its channels, and how many of these to keep."""

    graph: ChannelGraph
    layers: dict[str, Any]
    widths: dict[str, int]
    computed: Callable[[dict[str, Any], Any], Any]

    def naive(self, folder: Path) -> dict[str, Any]:
        """The network without the channels that a pruning removed, and otherwise as it was."""
        found = dict(self.layers)
        for group in self.graph.groups:
            with np.load(layerwise._file(folder, group)) as archive:
                kept = archive["kept"]
            for name in group.consumers:
                found[name] = (found[name][0][..., kept, :], found[name][1])
            found |= layerwise._narrowed(found, group.producers, kept)
        return found


def small_vgg19(widths: Mapping[str, int]) -> Any:
    layers = load_keras().layers
    pixels = x = load_keras().Input((32, 32, 3), name="pixels")
    x = layers.Rescaling(1.0, offset=-110.0, name="centred")(x)
    for name, width in widths.items():
        if name.endswith("conv1") and name != "block1_conv1":
            x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=name, kernel_initializer="he_normal")(x)
    return load_keras().Model(pixels, layers.GlobalAveragePooling2D(name="average")(x))


NETWORKS = {
    "vgg19": (small_vgg19, VGG19_WIDTHS, 16, (32, 32, 3)),
    "i3d": (lambda widths: build_network(16, 32, widths=widths), I3D_WIDTHS, 8, (16, 32, 32, 3)),
}


@pytest.fixture(params=["vgg19", pytest.param("i3d", marks=pytest.mark.slow)])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Small:
    """A small network of each backbone with random weights and biases."""
    monkeypatch.setattr(layerwise, "_PATCHES", 2000)
    build, published, part, _ = NETWORKS[request.param]
    load_keras().utils.set_random_seed(3)
    network = build({name: width // part for name, width in published.items()})
    random, graph, layers = np.random.default_rng(3), ChannelGraph(network), {}
    for name, layer in graph.convolutions.items():
        kernel, bias = layer.get_weights()
        layers[name] = (kernel, 0.3 * random.normal(size=bias.shape).astype(np.float32))
    halves = {name: width if name in graph.features else width // 2 for name, width in graph.widths.items()}

    def computed(layers: dict[str, Any], frames: Any) -> Any:
        """Features of frames in a network with these kernels."""
        network = build({name: bias.size for name, (_, bias) in layers.items()})
        for name, values in layers.items():
            network.get_layer(name).set_weights(values)
        return network(frames.astype(np.float32)).numpy()

    return Small(graph, layers, halves, computed)


def pictures(small: Small, count: int, seed: int) -> Any:
    """Smooth random frames or clips: in pure noise, all features are alike."""
    random, shape = np.random.default_rng(seed), small.graph.layers[small.graph.pixels].output.shape[1:]
    coarse = random.integers(0, 256, (count, *(max(1, side // 8) for side in shape[:-1]), 3))
    for axis, side in enumerate(shape[:-1], start=1):
        coarse = coarse.repeat(-(-side // coarse.shape[axis]), axis=axis)
    return coarse.astype(np.uint8)


def test_fewer_channels_compute_nearly_the_same(small: Small, tmp_path: Path) -> None:
    pruned = prune_layers(small.graph, small.layers, small.widths, list(pictures(small, 24, 4)), tmp_path, 0)
    assert {name: bias.size for name, (_, bias) in pruned.items()} == small.widths
    naive, others = small.naive(tmp_path), pictures(small, 16, 5)
    assert {name: kernel.shape for name, (kernel, _) in naive.items()} == {
        name: kernel.shape for name, (kernel, _) in pruned.items()
    }
    whole = small.computed(small.layers, others)
    found, plain = (small.computed(each, others) for each in (pruned, naive))
    error, without = (np.linalg.norm(each - whole) for each in (found, plain))
    near, far = (np.corrcoef(each.ravel(), whole.ravel())[0, 1] for each in (found, plain))
    assert error < 0.4 * without
    assert near > 0.9
    assert 1 - near < 0.4 * (1 - far)


def test_where_all_is_kept_nothing_changes(small: Small, tmp_path: Path) -> None:
    same = prune_layers(small.graph, small.layers, small.graph.widths, [], tmp_path, 0)
    assert all(same[name] is layer for name, layer in small.layers.items())


class Interrupted(Exception):
    """Stands for a kill."""


def test_an_interrupted_pruning_goes_on_and_ends_bit_identical(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = list(pictures(small, 8, 4))
    prune = functools.partial(prune_layers, small.graph, small.layers, small.widths, frames)
    whole = prune(tmp_path / "whole", 0)
    solved, solve = list[str](), layerwise._solve

    def count(*arguments: Any) -> Any:
        solved.append("")
        if len(solved) == 7:
            raise Interrupted
        return solve(*arguments)

    monkeypatch.setattr(layerwise, "_solve", count)
    with pytest.raises(Interrupted):
        prune(tmp_path / "part", 0)
    finished = sorted((tmp_path / "part").iterdir())
    assert len(finished) == 6
    finished[2].write_bytes(b"damaged")
    resumed = prune(tmp_path / "part", 0)
    assert len(solved) == 7 + 1 + len(small.graph.groups) - 6
    for name, (kernel, bias) in whole.items():
        np.testing.assert_array_equal(resumed[name][0], kernel)
        np.testing.assert_array_equal(resumed[name][1], bias)


@pytest.mark.slow
def test_other_work_in_the_folder_is_not_gone_on_with(tiny_run: Run, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / BACKBONE).write_bytes(b"of another run")
    weights, _ = prune_weights(tiny_run, 1.0, tmp_path / "work")
    assert weights.path
    assert weights.path.stat().st_size > 1_000_000


@pytest.mark.parametrize(
    ("settings", "keep", "message"),
    [
        ({}, 1.5, r"--keep 1\.5 is no share from 0\.05 to 1; for example --keep 0\.35"),
        ({}, float("nan"), "--keep nan is no share"),
        ({}, 0.01, r"--keep 0\.01 is no share"),
        (
            {"name": "efficientnet-lite0"},
            0.5,
            "is on EfficientNet-Lite0, and only I3D and VGG19 can be pruned; give a run on i3d or vgg19",
        ),
        ({"name": "two-stream", "trunk": {"name": "i3d"}}, 0.5, "is on two-stream network, and only I3D"),
        ({"layer": "fc2"}, 0.5, "are fully connected to all channels"),
        ({"channels": [8] * 15 + [512]}, 0.5, "is pruned already"),
    ],
)
def test_what_cannot_be_pruned_is_one_clear_line(
    tiny_run: Run, tmp_path: Path, settings: dict[str, object], keep: float, message: str
) -> None:
    root = shutil.copytree(tiny_run.root, tmp_path / "run")
    values = json.loads((root / "run.json").read_text())
    found = {"weights": "random", **settings}
    values["stages"][0] |= {"architecture": found.pop("name", "vgg19"), "settings": found}
    (root / "run.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=message) as caught:
        prune_run(root, tmp_path / "out", keep=keep, store_root=tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_clips_that_are_gone_and_the_run_itself_are_refused(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is the run itself"):
        prune_run(tiny_run.root, tiny_run.root, keep=0.5, store_root=tmp_path)
    with pytest.raises(UserError, match="is missing; say where the clips of the run are"):
        prune_run(tiny_run.root, tmp_path / "out", keep=0.5, store_root=tmp_path, data=tmp_path / "nowhere")
    assert not list(tmp_path.glob("out*"))


def test_a_full_disk_is_one_clear_line(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_text", fail)
    with pytest.raises(RunError, match=r"cannot write to .*No space left on device"):
        prune_weights(tiny_run, 0.5, tmp_path / "work")


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ([8] * 15, "channels must be 16 numbers"),
        ([8] * 16, "block5_conv4 is a feature and keeps its 512 channels"),
        ([65, *[8] * 14, 512], "channels of block1_conv1 must be from 1 to 64"),
    ],
)
def test_wrong_channels_are_one_clear_line(channels: list[int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("default", [f"backbone.channels={channels}"])


def test_published_weights_do_not_fit_fewer_channels(tmp_path: Path) -> None:
    backbone = backbone_of({"name": "vgg19", "channels": (*[8] * 15, 512)})
    (tmp_path / "w.h5").touch()
    with pytest.raises(WeightsError, match=r"holds weights of the whole VGG19, and backbone\.channels has fewer"):
        FeatureExtractor(backbone, Weights("imagenet", tmp_path / "w.h5", ""), ClipSpec(frames=4, size=32))


@pytest.mark.slow
def test_a_recipe_without_channels_says_nothing_of_them(pruned: Run) -> None:
    assert "channels" not in load_recipe().identity["backbone"]
    assert len(recipe_of_run(pruned.root).identity["backbone"]["channels"]) == 16
