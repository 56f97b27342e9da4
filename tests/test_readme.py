"""What README shows in Python runs as it stands."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import commands
from models import load_model
from models.samples import list_samples

README = Path(__file__).parents[1] / "README.md"


def test_the_python_in_readme_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = next(sample for sample in list_samples() if not sample.grey)
    (tmp_path / "cat.jpg").write_bytes(sample.read())
    state = load_model("resnet18", weights=None).net.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["heat"].values.shape == (6, 6)  # type: ignore[attr-defined]
    assert all(finding.state != "fault" for finding in names["report"].findings)  # type: ignore[attr-defined]
    assert names["own"].labels[:2] == ("class 0", "class 1")  # type: ignore[attr-defined]
    assert torch.isfinite(torch.from_numpy(names["occ"].values)).all()  # type: ignore[attr-defined]


def test_the_commands_in_readme_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [sample for sample in list_samples() if not sample.grey]
    (tmp_path / "cat.jpg").write_bytes(photos[0].read())
    (tmp_path / "pictures").mkdir()
    for sample in photos:
        (tmp_path / "pictures" / f"{sample.key}.jpg").write_bytes(sample.read())
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```\n(python -m vizcore.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line, comments=True)[3:] for line in block.splitlines()]
    assert {words[0] for words in lines} == {"heatmap", "report", "layers", "filters", "embed", "survey", "batch"}
    for words in lines:
        assert commands.main(words) == 0
        assert all((tmp_path / name).stat().st_size for at, name in enumerate(words) if at and words[at - 1] == "-o")
