"""What a user may ask of an engine, and what is refused before anything is built."""

from __future__ import annotations

import pytest

from vdeploy.artifacts.file_headers.tensorrt import capability_text
from vdeploy.core.errors import ExportError
from vdeploy.export.tensorrt import EngineOptions, parse_batches, parse_targets
from vdeploy.export.tensorrt.targets import choose_targets

RTX = (75, 80, 86, 89, 120, 121)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("89", (89,)),
        ("8.9, 86", (89, 86)),
        ("sm89,SM_120,sm 8.6", (89, 120, 86)),
        ("12.1,121", (121,)),
        ("RTX 3060", (86,)),
        ("NVIDIA GeForce RTX 4090, L4", (89,)),
        ("rtx 5000 ada generation", (89,)),
        ("RTX 3080 Ti,RTX 4070 Ti Super", (86, 89)),
        ("RTX A6000", (86,)),
        ("RTX 5090, RTX PRO 6000 Blackwell", (120,)),
        ("H100", (90,)),
        ("Tesla T4", (75,)),
    ],
)
def test_targets_are_numbers_or_cards(text, expected):
    assert parse_targets(text) == expected


@pytest.mark.parametrize("text", ["", "89,", "voodoo", "8", "1234", "RTX 3060 potato"])
def test_other_targets_are_refused(text):
    with pytest.raises(ExportError, match=r"is no compute capability; give numbers such as 89 or 8\.6"):
        parse_targets(text)


def test_targets_are_sorted_and_all_from_ampere_on_where_none_is_given():
    assert choose_targets((89, 86, 89), RTX) == (86, 89)
    assert choose_targets((), RTX) == (80, 86, 89, 120, 121)
    assert choose_targets((75,), RTX) == (75,)


def test_a_target_that_is_not_available_is_refused_with_the_list():
    with pytest.raises(ExportError) as caught:
        choose_targets((89, 90), RTX)
    assert str(caught.value) == (
        "tensorrt-rtx does not build for compute capability 9.0, only for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1; "
        "for another GPU, export to tensorrt-fp16 or tensorrt-int8 on the machine that has it"
    )


def test_a_capability_is_written_with_a_point():
    assert (capability_text(75), capability_text(86, 120)) == ("7.5", "8.6, 12.0")


def test_batches_are_one_number_or_three():
    assert parse_batches("1,16,64") == (1, 16, 64)
    assert parse_batches(" 2 , 4 , 8 ") == (2, 4, 8)
    assert parse_batches("8") == (8, 8, 8)


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a", "1,-2,3", "1.5"])
def test_other_batches_are_refused(text):
    with pytest.raises(ExportError, match="are no batches; give one number"):
        parse_batches(text)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batches": (4, 2, 8)}, "4, 2, 8 are not in order"),
        ({"batches": (0, 2, 8)}, "0, 2, 8 are not in order"),
        ({"optimization_level": 6}, "no optimization level 6; choose 0 to 5"),
        ({"workspace_bytes": 0}, "a workspace of 0 bytes is none"),
        ({"version_compatible": True}, "runs on the version that built it only"),
        ({"hardware_compatibility": "ampere+"}, "name all of them: --target-sm"),
    ],
)
def test_options_that_cannot_be_met_are_refused(wrong, message):
    with pytest.raises(ExportError, match=message):
        EngineOptions(precision="fp16", **wrong)


def test_options_of_the_other_library_are_taken_by_it():
    options = EngineOptions(
        precision="fp16", library="tensorrt", version_compatible=True, hardware_compatibility="ampere+"
    )
    assert options.version_compatible


def test_a_precision_that_does_not_exist_is_a_mistake_in_the_program():
    with pytest.raises(ValueError, match="precision must be one of"):
        EngineOptions(precision="fp12")
