"""Remove each guard once, and see that a test fails: `make guards`.

A guard is an ``if`` whose body ends in a raise or in a sentence that refuses, an ``except`` that raises, or what a
``case`` asks for besides its form. Each is taken out of a copy of the project in turn, the condition made False (True,
of a case) or the exception another one, and the tests of its file are run there until one fails. A guard that no test
misses is printed as MISSED, and the exit status is 1.

    python tests/guards.py [file …]      # all files of TESTS, which takes about an hour on two cores
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache", "docs")
PATIENCE = 300  # seconds: several times what the tests of a file take
CONTRACT = "test_contract.py -k refused"
TESTS = {  # of each file that refuses what people bring or ask for: what pytest is called with, one call each
    "vizcore/photos.py": ("test_images.py",),
    "vizcore/images.py": ("test_images.py", "test_embedding.py"),
    "vizcore/archives.py": ("test_archives.py",),
    "vizcore/records.py": (CONTRACT, "test_images.py", "test_embedding.py"),
    "vizcore/hooks.py": ("test_hooks.py", CONTRACT),
    "vizcore/cam.py": ("test_cam.py", CONTRACT),
    "vizcore/occlusion.py": ("test_occlusion.py",),
    "vizcore/baselines.py": ("test_occlusion.py",),
    "vizcore/scores.py": ("test_occlusion.py",),
    "vizcore/rise.py": ("test_rise.py",),
    "vizcore/superpixels.py": ("test_superpixels.py",),
    "vizcore/attribution.py": ("test_attribution.py",),
    "vizcore/relu_rules.py": ("test_attribution.py -k refused",),
    "vizcore/projection.py": ("test_projection.py -k refused",),
    "vizcore/strongest.py": ("test_strongest.py -k refused",),
    "vizcore/faithfulness.py": ("test_faithfulness.py",),
    "vizcore/advice.py": ("test_advice.py -k refused or point or stands or beyond",),
    "vizcore/imputation.py": ("test_faithfulness.py",),
    "vizcore/filters.py": ("test_filters.py", "test_contract.py -k without_memory"),
    "vizcore/heatmaps.py": ("test_heatmaps.py",),
    "vizcore/words.py": ("test_words.py",),
    "vizcore/report.py": ("test_report.py",),
    "vizcore/report_file.py": ("test_report.py",),
    "vizcore/maximisation.py": ("test_maximisation.py -k refused",),
    "vizcore/randomisation.py": ("test_randomisation.py -k refused or verdict or everywhere",),
    "vizcore/agreement.py": ("test_agreement.py -k refused or everywhere or middle",),
    "vizcore/adversarial.py": ("test_adversarial.py -k refused",),
    "vizcore/embedding.py": ("test_embedding.py", "test_separability.py -k asked_together or finite"),
    "vizcore/neighbours.py": (
        "test_embedding.py -k refused",
        "test_tsne.py -k refused",
        "test_map_quality.py -k refused",
    ),
    "vizcore/tsne.py": ("test_embedding.py -k refused", "test_tsne.py -k refused or spectral"),
    "vizcore/placing.py": ("test_placing.py -k refused",),
    "vizcore/map_quality.py": ("test_map_quality.py -k refused or sentence or sample",),
    "vizcore/separability.py": ("test_separability.py -k refused", "test_embedding.py -k refused"),
    "vizcore/other_maps.py": ("test_other_maps.py -k refus or wide or large",),
    "vizcore/predictions.py": ("test_predictions.py -k refused",),
    "vizcore/calibration.py": ("test_predictions.py -k refused",),
    "vizcore/class_channels.py": ("test_class_channels.py -k refused",),
    "vizcore/alike.py": ("test_alike.py -k refused",),
    "vizcore/shares.py": ("test_shortcuts.py -k refused",),
    "vizcore/shortcuts.py": ("test_shortcuts.py -k refused or compared or alike_classes or surest",),
    "vizcore/heat_clusters.py": ("test_shortcuts.py -k refused",),
    "vizcore/replaced.py": ("test_shortcuts.py -k refused or answered_with_the_class",),
    "vizcore/survey_folder.py": ("test_survey.py -k refused",),
    "vizcore/survey.py": ("test_survey.py -k refused or reason or named",),
    "vizcore/colour.py": ("test_colour.py",),
    "models/archives.py": ("test_checkpoints.py",),
    "models/checkpoints.py": ("test_checkpoints.py",),
    "models/opening.py": ("test_checkpoints.py",),
    "models/matching.py": ("test_checkpoints.py",),
    "models/own.py": ("test_checkpoints.py",),
    "models/safetensors_header.py": ("test_checkpoints.py",),
    "models/loading.py": (
        "test_models.py",
        "test_catalogue.py -k refused or classes or untrained",
        "test_checkpoints.py",
    ),
    "models/fetching.py": ("test_models.py",),
    "vizcore/folders.py": ("test_folders.py",),
    "vizcore/whole_files.py": ("test_batch.py -k full_disk",),
    "vizcore/batch.py": ("test_batch.py -k refused",),
    "vizcore/batch_job.py": ("test_batch.py -k cannot_be_done or does_not_allow",),
    "vizcore/batch_rows.py": ("test_batch.py -k refused or cannot_be_read or take_its_batch",),
    "vizcore/batch_store.py": ("test_batch.py -k refused or locks",),
    "vizcore/batch_worker.py": ("test_batch.py -k cannot_be_done or other_weights",),
    "vizcore/batch_local.py": ("test_batch.py -k all_die or own_words or who_stops",),
    "vizcore/batch_ray.py": ("test_ray.py -m ray", "test_batch.py -k not_installed"),
    "commands/batch.py": ("test_batch.py -k command",),
    "commands/survey.py": ("test_survey.py -k command",),
    "commands/common.py": ("test_commands.py",),
    "commands/embed.py": ("test_commands.py -k cannot_be_done or five_pictures",),
    "commands/heatmap.py": ("test_commands.py -k cannot_be_done",),
    "commands/layers.py": ("test_commands.py -k cannot_be_done",),
    "app_pages/line.py": ("test_line.py",),
    "app_pages/networks.py": ("test_memory_budget.py", "test_app_line.py"),
    "app_pages/common.py": ("test_memory_budget.py", "test_app_line.py", "test_server.py"),
    "app_pages/clickable.py": ("test_clickable.py",),
    "app_pages/gate.py": ("test_server.py",),
}


@dataclass(frozen=True)
class Guard:
    """A guard of a ``file``: what stands ``old`` at ``line``, from ``start`` to ``end`` of its text, and what is put in
    its place, ``new``."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {' '.join(self.old.split())}"

    def removed_from(self, text: bytes) -> bytes:
        return text[: self.start] + self.new.encode() + text[self.end :]


def guards_of(file: str, text: bytes) -> Iterator[Guard]:
    """Every guard in the ``text`` of a file, from the top."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[tuple[ast.expr, str]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.If) and _refuses(node.body[-1]):
            found.append((node.test, "False"))
        elif isinstance(node, ast.ExceptHandler) and node.type and isinstance(node.body[-1], ast.Raise):
            found.append((node.type, "ZeroDivisionError"))
        elif isinstance(node, ast.match_case) and node.guard:
            found.append((node.guard, "True"))
    for expression, new in sorted(found, key=lambda one: (one[0].lineno, one[0].col_offset)):
        assert expression.end_lineno is not None
        assert expression.end_col_offset is not None
        start = starts[expression.lineno - 1] + expression.col_offset
        end = starts[expression.end_lineno - 1] + expression.end_col_offset
        yield Guard(file, expression.lineno, start, end, text[start:end].decode(), new)


def _refuses(last: ast.stmt) -> bool:
    """Whether a statement raises something new, or returns a sentence."""
    if isinstance(last, ast.Raise):
        return last.exc is not None
    value = last.value if isinstance(last, ast.Return) else None
    return isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and " " in str(value.value))


def main(files: list[str]) -> int:
    missed = count = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        for file in files or TESTS:
            text = (copy / file).read_bytes()
            if not _tests_pass(copy, file):
                sys.exit(f"The tests of {file} fail already, with all its guards in place.")
            for guard in guards_of(file, text):
                (copy / file).write_bytes(guard.removed_from(text))
                passed = _tests_pass(copy, file)
                count, missed = count + 1, missed + passed
                print("MISSED" if passed else "seen  ", guard, flush=True)
            (copy / file).write_bytes(text)
    print(f"Without {count - missed} of {count} guards a test fails.")
    return int(missed > 0)


def _tests_pass(copy: Path, file: str) -> bool:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}  # a guard may go and come within one tick of the clock
    for tests in TESTS[file]:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split(maxsplit=2)]
        try:
            done = subprocess.run(command, cwd=copy / "tests", env=environment, capture_output=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:  # over what the guard would have kept out
            return False
        if done.returncode:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
