"""Every format through the exporter, as a user asks for it, and faults planted into what the writers use."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import shared
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ExportError, ParityError
from vdeploy.evaluate import evaluate_on
from vdeploy.export import intermediates as sources
from vdeploy.export.availability import select_formats
from vdeploy.export.exporter import Exported, export_run
from vdeploy.export.openvino import writer as openvino
from vdeploy.export.options import ExportOptions
from vdeploy.export.quantization import Quantization
from vdeploy.export.quantization.agreement import measure_agreement
from vdeploy.export.quantization.histograms import collect_histograms
from vdeploy.export.quantization.qdq import tensors_to_calibrate, write_qdq
from vdeploy.export.quantization.ranges import METHODS
from vdeploy.export.savedmodel import writer as savedmodel
from vdeploy.export.tflite import writer as tflite
from vdeploy.formats import FORMATS, parse_formats
from vdeploy.synthetic import synthesize

EXTRACTOR_MB = {"fp32": 80.1, "fp16": 40.1, "int8": 20.1}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def export(narrow_run, store, tmp_path):
    def run(formats: str, **options: object) -> Exported:
        chosen = ExportOptions(store_root=store, **options)
        return export_run(narrow_run, parse_formats(formats), tmp_path / "narrow", options=chosen)

    return run


@pytest.mark.slow
def test_half_precision_is_found_in_the_file_and_halves_it(tiny_run, store, tmp_path):
    options = ExportOptions(store_root=store)
    bundle = export_run(tiny_run, parse_formats("onnx-fp16"), tmp_path / "tiny", options=options).bundle
    extractor, classifier = (bundle.artifact(stage, "onnx-fp16") for stage in ("extractor", "classifier"))
    assert (extractor.precision, classifier.precision) == ("fp16", "fp16")
    assert extractor.bytes / 1e6 == pytest.approx(EXTRACTOR_MB["fp16"], rel=0.02)
    assert extractor.details["kept_in_float32"] == []
    assert extractor.details["opset"] <= 17
    assert 1e-6 < extractor.parity.max_rel < extractor.parity.tolerance


@pytest.mark.slow
def test_a_float32_network_passed_as_float16_is_caught(export, monkeypatch):
    monkeypatch.setattr(sources, "to_float16", lambda model, **_: model)
    with pytest.raises(ExportError, match="onnx-fp16: the extractor is not fp16 inside but fp32"):
        export("onnx-fp16")


@pytest.mark.slow
def test_a_layer_left_out_of_quantization_is_caught(export, monkeypatch):
    def forgetful(model, flavour, feeds, judge):
        histograms = collect_histograms(model, tensors_to_calibrate(model), feeds())
        ranges = {name: METHODS["min-max"](histogram, flavour) for name, histogram in histograms.items()}
        same = np.ones((2, 2), np.float32) / 2
        return Quantization(
            model=write_qdq(model, flavour, ranges, keep=("block3_conv2",)),
            flavour=flavour.name,
            method="min-max",
            tried={},
            agreement=measure_agreement(same, same, same, same, np.array([0, 1]), threshold=0.5),
            kept=(),
            float_only=(),
        )

    monkeypatch.setattr(sources, "quantize", forgetful)
    with pytest.raises(ExportError, match="block3_conv2 of the extractor stayed in floating point unasked"):
        export("onnx-int8")


@pytest.mark.slow
def test_a_float32_network_passed_as_int8_is_caught(export, monkeypatch):
    plain = tflite.extractor_to_tflite
    monkeypatch.setattr(tflite, "extractor_to_tflite", lambda extractor, path, data, _: plain(extractor, path, data))
    with pytest.raises(ExportError, match="tflite-int8: the extractor is not int8 inside but fp32"):
        export("tflite-int8")


@pytest.mark.slow
def test_swapped_channels_in_a_savedmodel_are_caught(export, monkeypatch):
    plain = savedmodel.extractor_to_savedmodel

    def swapped(extractor, folder):
        first = extractor.network.get_layer("block1_conv1")
        kernel, bias = first.get_weights()
        first.set_weights([kernel[:, :, ::-1], bias])
        try:
            plain(extractor, folder)
        finally:
            first.set_weights([kernel, bias])

    monkeypatch.setattr(savedmodel, "extractor_to_savedmodel", swapped)
    with pytest.raises(ParityError, match="savedmodel: features differs from Keras by"):
        export("savedmodel")


def openvino_of(monkeypatch, change) -> None:
    """Changes the ONNX file of a stage on its way into OpenVINO's representation."""
    pytest.importorskip("openvino")
    plain = openvino.onnx_to_openvino

    def changed(source, folder):
        model = onnx.load(source)
        change(model)
        onnx.save(model, source.with_suffix(".changed.onnx"))
        plain(source.with_suffix(".changed.onnx"), folder)

    monkeypatch.setattr(openvino, "onnx_to_openvino", changed)


def replace_weights(model, name, change) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
            tensor.CopyFrom(numpy_helper.from_array(changed, name))


@pytest.mark.slow
def test_a_float32_network_passed_as_int8_in_openvino_is_caught(export, monkeypatch):
    pytest.importorskip("openvino")
    plain = sources.quantize

    def unquantized(model, *rest):
        return dataclasses.replace(plain(model, *rest), model=model)

    monkeypatch.setattr(sources, "quantize", unquantized)
    with pytest.raises(ExportError, match=r"openvino-int8: block\d_conv\d, .* of the extractor stayed in floating"):
        export("openvino-int8", calibration_clips=2)


@pytest.mark.slow
def test_swapped_channels_in_openvino_are_caught(export, monkeypatch):
    openvino_of(monkeypatch, lambda model: replace_weights(model, "block1_conv1/kernel", lambda w: w[:, ::-1]))
    with pytest.raises(ParityError, match="openvino-fp32: features differs from Keras by"):
        export("openvino-fp32")


@pytest.mark.slow
def test_transposed_gates_in_openvino_are_caught(export, monkeypatch):
    def transposed(weights):
        return np.concatenate([block.transpose(0, 2, 1) for block in np.split(weights, 4, axis=1)], axis=1)

    openvino_of(monkeypatch, lambda model: replace_weights(model, "lstm/2", transposed))
    with pytest.raises(ParityError, match="openvino-fp32: probabilities differs from Keras by"):
        export("openvino-fp32")


def test_an_engine_batch_that_cannot_be_proven_is_refused(export):
    with pytest.raises(ExportError, match="--batch begins with 8; begin with 1"):
        export("tensorrt-rtx-fp16", batch=(8, 8, 8))


class Whole(NamedTuple):
    """A bundle in every format that this machine can make, and what became of the formats."""

    bundle: Bundle
    made: list[str]
    rejected: list[str]


@pytest.fixture(scope="module")
def whole(tiny_run, tmp_path_factory) -> Whole:
    def make(folder: Path) -> None:
        selection = select_formats("all", has_data=True)
        options = ExportOptions(store_root=folder / "store", batch=(1, 2, 4), target_sm=(89, 86), report=True)
        found = export_run(tiny_run, selection.formats, folder / "tiny", options=options)
        outcome = {"made": found.made, "rejected": [rejection.reason for rejection in found.rejected]}
        (folder / "outcome.json").write_text(json.dumps(outcome))

    folder = shared(tmp_path_factory, "every-format", make)
    return Whole(Bundle(folder / "tiny"), **json.loads((folder / "outcome.json").read_text()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_format_that_this_machine_can_make_is_proven(whole):
    assert whole.rejected == []
    assert whole.bundle.manifest.formats[0] == "onnx-fp32"
    assert set(whole.made) >= {name for name, entry in FORMATS.items() if not entry.needs_gpu}
    assert set(whole.bundle.manifest.end_to_end) == set(whole.made)
    for artifact in whole.bundle.manifest.artifacts:
        kind = FORMATS[artifact.format]
        assert artifact.parity.batches == (1, 3, 16)
        assert artifact.parity.inputs == "real"
        assert (artifact.held_out is None) == (artifact.stage == "pipeline")
        assert (artifact.calibration is not None) == (kind.precision == "int8" and artifact.precision != "fp16")
        assert artifact.parity.executed.startswith("the ONNX file") == (kind.writer == "tensorrt")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sizes_show_the_precision(whole):
    for artifact in whole.bundle.manifest.artifacts:
        if artifact.stage == "extractor" and not artifact.precision.startswith("mixed"):
            expected = EXTRACTOR_MB[FORMATS[artifact.format].precision]
            assert expected * 0.98 < artifact.bytes / 1e6 < expected * 1.2, artifact.format


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_classifier_is_said_to_be_what_it_is_not(whole):
    found = {a.format: a.precision for a in whole.bundle.manifest.artifacts if a.stage == "classifier"}
    assert found["onnx-int8"].startswith("mixed: fp32 ")
    assert found["tensorrt-rtx-int8"] == found["tensorrt-rtx-fp16"] == found["onnx-fp16"] == "fp16"
    assert found["tflite-int8"] == "int8"
    assert found["openvino-int8"] == found["onnx-int8"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_engines_have_papers_in_the_manifest_and_a_log_in_the_bundle(whole):
    artifact = whole.bundle.artifact("extractor", "tensorrt-rtx-int8")
    engine = artifact.details["engine"]
    assert (engine["library"], engine["capabilities"]) == ("tensorrt_rtx", [86, 89])
    assert engine["shapes"]["frames"][2][:2] == [4, 4]
    assert "extractor/tensorrt-rtx-int8/model.engine.log" in whole.bundle.manifest.documents


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["onnx-int8", "openvino-int8", "tflite-int8", "savedmodel"])
def test_a_bundle_is_evaluated_in_any_format(whole, tiny_run, clips_dir, store, name):
    options = {"split": "valid", "positive": (), "store_root": store}
    keras = evaluate_on(tiny_run.root, clips_dir, **options).probabilities
    found = evaluate_on(whole.bundle.root, clips_dir, format_name=name, **options).probabilities
    assert found.keys() == keras.keys()
    assert max(abs(found[path] - keras[path]) for path in keras) < 0.25


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_same_run_gives_the_same_files_in_onnx_openvino_and_tflite(whole, tiny_run, store, tmp_path):
    formats = parse_formats("onnx-fp32,onnx-fp16,onnx-int8,tflite-fp32,tflite-int8,openvino-fp32,openvino-int8")
    again = export_run(tiny_run, formats, tmp_path / "again", options=ExportOptions(store_root=store)).bundle
    first = {(a.stage, a.format): a.sha256 for a in whole.bundle.manifest.artifacts}
    for artifact in again.manifest.artifacts:
        assert artifact.sha256 == first[artifact.stage, artifact.format], f"{artifact.stage} {artifact.format}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_formats_are_quantized_from_the_run_on_real_clips_only(tiny_run, store, tmp_path):
    synthesize(tmp_path / "others", clips=4, size=(96, 72), fps=10.0)
    options = ExportOptions(store_root=store, data=tmp_path / "others")
    with pytest.raises(ExportError, match="does not hold the clips"):
        export_run(tiny_run, parse_formats("onnx-int8"), tmp_path / "tiny", options=options)
    gone = dataclasses.replace(tiny_run, info=dataclasses.replace(tiny_run.info, source=str(tmp_path / "gone")))
    with pytest.raises(ExportError, match="say where the clips of the run are: --data DIR"):
        export_run(gone, parse_formats("onnx-int8"), tmp_path / "tiny", options=ExportOptions(store_root=store))
    assert not (tmp_path / "tiny").exists()
