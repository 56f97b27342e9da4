"""What README shows in Python runs as it stands."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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
