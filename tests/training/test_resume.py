"""Whether a folder's run is this one. (`test_stages` resumes.)"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from training import checkpoint as checkpoints
from training.checkpoint import Lineage
from training.resume import _INCIDENTAL, _differences, identity_of
from training.selection import read_selection
from training.stages import Stopped, run_stage


def test_settings_that_came_later_leave_an_older_run_what_it_was(tiny, footage):
    config, selection = tiny(), read_selection(footage.selection)
    fields = config.model_dump(mode="json", exclude=_INCIDENTAL | {"data": {"cache", "cache_gb"}})
    del fields["model"]["structure"]  # as it was before there was any
    text = json.dumps([fields, selection.content_hash, ["nan"] * len(selection.clips), "p"], sort_keys=True)
    assert identity_of(config, selection, "p") == hashlib.sha256(text.encode()).hexdigest()


def test_what_decides_the_result_is_in_the_identity(tiny, footage):
    selection = read_selection(footage.selection)
    configs = [tiny(), tiny(seed=1), tiny(model={"system": "svd"}), tiny(formulation="flow"), tiny(optim={"lr": 1.0})]
    names = [identity_of(config, selection, "") for config in configs]
    names += [identity_of(tiny(), selection, "parent"), identity_of(tiny(), replace(selection, content_hash="x"), "")]
    assert len(set(names)) == len(names)
    for same in (tiny(log_seconds=3.0), tiny("elsewhere"), tiny(cpu_threads=1)):
        assert identity_of(same, selection, "") == names[0]


def test_differences_are_named_and_a_setting_that_came_later_is_none(tiny):
    def lineage(**fields):
        config = tiny(**fields).model_dump(mode="json")
        return Lineage("", "image_pretrain", config, {}, {"content_hash": ""}, "")

    old = lineage()
    del old.config["model"]["structure"]
    assert _differences(old, lineage()) == []
    assert _differences(old, lineage(seed=2, model={"system": "dit"}, cpu_threads=3)) == ["model.system", "seed"]
    old.config["data"]["cache"] = "elsewhere"
    assert _differences(old, lineage(replace=True)) == []


def test_a_checkpoint_from_before_losses_were_kept_goes_on_without_them(tiny):
    calls = []
    with pytest.raises(Stopped):
        run_stage(tiny(), stop=lambda: calls.append(1) or len(calls) > 2)
    path = Path(tiny().out) / checkpoints.FILE
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        lineage = json.loads(file.metadata()["rushes"])
    del lineage["quarters"], lineage["config"]["replace"]
    save_file(tensors, path, {"rushes": json.dumps(lineage)})
    result = run_stage(tiny())
    assert (result.samples, result.loss_first, result.loss_last) == (24, None, None)
