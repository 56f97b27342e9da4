"""The arrows between the parts, and the few habits that keep a part what it is, read from the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

BASE_OF_THE_CORE = {
    *("records", "hooks", "photos", "images", "colour", "baselines", "imputation", "ranks", "scores", "relu_rules"),
    *("folders", "weights", "whole_files"),
    "neighbours",  # rows of numbers and the distances between them
    *("recording", "trail", "formulas", "windows"),  # what a pass computed, to be done again by hand
    "shares",  # of the evidence of many heatmaps, by place
    *("fields", "operations", "runs"),  # what each layer computes and which pixels it reads
    # forward passes of which only a part is computed
    *("graph", "regions", "kernels", "winograd", "workspace", "program", "incremental"),
}
# (file, method) pairs of vizcore; each needs a reason beside it
MAY_IMPORT_A_METHOD: set[tuple[str, str]] = {
    *(
        ("doctor", method)
        for method in ("activations", "anatomy", "arithmetic", "attribution", "cam", "embedding", "filters")
    ),
    # it tries each of them
    *(("heatmaps", method) for method in ("attribution", "cam", "occlusion", "rise", "superpixels")),
    # it gives each of them by its name
    ("figures", "export"),  # it draws what is there, and writes nothing itself
    ("figures", "heatmaps"),
    *(("report", method) for method in ("agreement", "cam", "faithfulness", "heatmaps", "randomisation", "warp")),
    ("report", "scripts"),
    # it gathers what they find
    *(("report_file", what) for what in ("agreement", "faithfulness", "heatmaps", "randomisation", "report")),
    ("report_file", "scripts"),
    ("report_file", "words"),
    # it puts that on a page
    *(("embedding", what) for what in ("map_quality", "separability", "tsne")),
    # the one name by which notebooks call features, their map and what to think of it
    *((view, "map_quality") for view in ("tsne", "other_maps")),  # a map comes with how far to trust it
    ("placing", "tsne"),  # it puts pictures on that map
    ("strongest", "receptive_field"),  # which patch of the picture a unit sees
    ("advice", "faithfulness"),  # it asks the same of every layer's map
    ("batch_job", "heatmaps"),
    *(("batch_rows", what) for what in ("batch_job", "embedding", "heatmaps", "warp")),
    *(("batch_worker", what) for what in ("batch_job", "batch_rows", "batch_store")),
    *(
        (engine, what)
        for engine in ("batch_local", "batch_ray")
        for what in ("batch_job", "batch_store", "batch_worker")
    ),
    *(("batch", f"batch_{what}") for what in ("job", "local", "ray", "rows", "store", "worker")),
    *(
        ("findings", what)
        for what in (
            *("alike", "calibration", "class_channels", "heat_clusters", "predictions", "replaced", "shortcuts"),
            "strongest",
        )
    ),
    # the record of what they all found over a set
    *(("set_figures", what) for what in ("calibration", "export", "findings", "predictions", "strongest")),
    *(
        ("survey", what)
        for what in (
            *("alike", "cam", "class_channels", "embedding", "filters", "findings", "heat_clusters"),
            *("predictions", "replaced"),
            *("set_figures", "shortcuts", "strongest", "survey_folder", "warp"),
        )
    ),
    # it asks each of them of a folder
    *(("survey_folder", what) for what in ("findings", "predictions", "set_figures")),
    # a job of many pictures: what is asked, what is computed, where it is written, by whom
}
ENTRY = "vizcore/__main__.py"  # the command line: it stands on top, as app.py does, and nothing imports it

# packages with a list of requirements of their own, and the one file that imports each
OPTIONAL = {"ray": "vizcore/batch_ray.py", "umap": "vizcore/other_maps.py"}

HOOKS = {
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_hook",
}


@dataclass(frozen=True)
class Source:
    """One file of the project: ``place`` is its path from the root, such as "vizcore/cam.py"."""

    place: str
    tree: ast.Module

    @property
    def imports(self) -> set[str]:
        """Every module named in an import statement, at any depth of the file, as a dotted name.

        ``from vizcore import hooks`` counts as ``vizcore.hooks`` and as ``vizcore``. Imports made only for the type
        checker count as well: an arrow is an arrow.
        """
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.place} has a relative import; write the full name"
                names.add(str(node.module))
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
        return names

    def imported_from(self, package: str) -> set[str]:
        return {name for name in self.imports if name == package or name.startswith(f"{package}.")}

    @property
    def calls(self) -> Iterator[ast.Call]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    @property
    def attributes(self) -> set[str]:
        """Every name after a dot: ``register_hook`` of ``x.register_hook``."""
        return {node.attr for node in ast.walk(self.tree) if isinstance(node, ast.Attribute)}


def read(*folders: str) -> list[Source]:
    """The sources in ``folders``, or the one file of that name."""
    paths = [path for folder in folders for path in ([ROOT / folder] if folder.endswith(".py") else folder_of(folder))]
    assert paths, f"nothing to read in {folders}"
    return [Source(path.relative_to(ROOT).as_posix(), ast.parse(path.read_bytes())) for path in paths]


def folder_of(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def offenders(sources: list[Source], *packages: str) -> dict[str, set[str]]:
    """Which file imports which of ``packages``."""
    found = {
        source.place: {name for package in packages for name in source.imported_from(package)} for source in sources
    }
    return {place: names for place, names in found.items() if names}


def test_the_core_knows_no_app_no_progress_bar_no_pyplot_and_no_catalogue() -> None:
    core = [source for source in read("vizcore") if source.place != ENTRY]
    above = ("streamlit", "tqdm", "matplotlib.pyplot", "models", "commands", "app_pages", "app")
    assert not offenders(core, *above)
    assert offenders(read(ENTRY), *above) == {ENTRY: {"commands", "commands.main"}}


def test_the_commands_know_no_app_and_the_app_no_commands() -> None:
    assert not offenders(read("commands"), "streamlit", "app_pages", "app", "matplotlib.pyplot")
    assert not offenders(read("models", "app_pages", "app.py"), "commands")


def test_a_command_imports_nothing_heavy_before_it_is_understood() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import commands; commands.make_parser(); "
        "print([name for name in ('torch', 'numpy', 'vizcore.records', 'models') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_importing_the_core_imports_neither_streamlit_nor_pyplot_nor_models() -> None:
    """What the reading of import statements cannot see: what comes along with them."""
    names = [path.stem for path in folder_of("vizcore") if path.stem not in ("__init__", "__main__")]
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        f"[__import__('vizcore.' + name) for name in {names!r}]; "
        "print([name for name in ('streamlit', 'matplotlib.pyplot', 'models', 'torchvision', 'timm') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_methods_never_import_one_another() -> None:
    methods = {path.stem for path in folder_of("vizcore")} - BASE_OF_THE_CORE - {"__init__", "__main__"}
    for source in read("vizcore"):
        own = Path(source.place).stem
        imported = {name.split(".")[1] for name in source.imported_from("vizcore") if "." in name}
        crossing = {(own, name) for name in imported & methods} - MAY_IMPORT_A_METHOD
        assert not crossing, f"{source.place} imports {sorted(name for _, name in crossing)}"


def test_records_import_nothing_of_the_project() -> None:
    assert not offenders(read("vizcore/records.py"), "vizcore", "models", "app_pages", "app")


def test_models_know_only_the_records_of_the_core() -> None:
    models = read("models")
    assert not offenders(models, "streamlit", "tqdm", "matplotlib", "app_pages", "app")
    for source in models:
        foreign = {
            name
            for name in source.imported_from("vizcore")
            if name not in {"vizcore", "vizcore.records"} and not name.startswith("vizcore.records.")
        }
        assert not foreign, f"{source.place} imports {foreign}"


def test_the_router_imports_no_torch() -> None:
    assert not offenders(read("app.py"), "torch", "torchvision", "timm", "vizcore")


def test_only_common_caches() -> None:
    for source in read("app.py", "app_pages"):
        if source.place != "app_pages/common.py":
            assert not source.attributes & {"cache_data", "cache_resource"}, f"{source.place} has a cache of its own"
            assert not {name for name in source.imports if name.startswith("streamlit.cache")}


def test_pyplot_is_imported_nowhere() -> None:
    assert not offenders(read("vizcore", "models", "app_pages", "commands", "app.py"), "matplotlib.pyplot", "pylab")


def test_torchvision_and_timm_come_in_only_through_the_guard() -> None:
    app = read("vizcore", "models", "app_pages", "commands", "app.py")
    beside = [source for source in app if source.place != "models/torchvision_guard.py"]
    assert not offenders(beside, "torchvision", "timm")
    for source in beside:
        by_name = [
            ast.unparse(call)
            for call in source.calls
            if ast.unparse(call.func) in {"__import__", "import_module", "importlib.import_module"}
            and call.args
            and ast.unparse(call.args[0]).strip("'\"").split(".")[0] in {"torchvision", "timm"}
        ]
        assert not by_name, f"{source.place} goes around the guard: {by_name}"


def test_only_models_use_the_guard() -> None:
    assert not offenders(read("vizcore", "app_pages", "commands", "app.py"), "models.torchvision_guard")


def test_hooks_are_registered_in_one_file() -> None:
    for source in read("vizcore", "models", "app_pages", "commands", "app.py"):
        if source.place != "vizcore/hooks.py":
            assert not source.attributes & HOOKS, f"{source.place} registers {source.attributes & HOOKS}"


def test_fx_traces_nothing() -> None:
    """torch.fx patches nn.Module.__call__ for the whole process while it traces: other threads' passes break."""
    assert not offenders(
        read("vizcore", "app_pages", "commands", "app.py"), "torch.fx", "torchvision.models.feature_extraction"
    )


@pytest.mark.parametrize("name", ["torch.load", "torch.hub.load", "torch.jit.load", "pickle.load", "pickle.loads"])
def test_no_file_is_unpickled(name: str) -> None:
    """torch.load is allowed where it says weights_only=True, in so many words; the others run what they read."""
    for source in read("vizcore", "models", "app_pages", "commands", "app.py"):
        for call in source.calls:
            if ast.unparse(call.func) == name:
                safe = name == "torch.load" and any(
                    word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True
                    for word in call.keywords
                )
                assert safe, f"{source.place}:{call.lineno} {ast.unparse(call)}"


def test_no_file_is_called_by_a_name_that_says_nothing() -> None:
    everything = [
        path
        for folder in ("vizcore", "models", "app_pages", "commands", "tests", "benchmarks")
        for path in folder_of(folder)
    ]
    assert len(everything) > 10
    empty = {"util", "utils", "helper", "helpers", "misc", "manager", "managers", "common_utils", "tools"}
    assert not [path.name for path in everything if path.stem in empty]


def test_nothing_shadows_input_filter_or_map() -> None:
    for source in read("vizcore", "models", "app_pages", "commands", "app.py"):
        bound = {
            node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        bound |= {node.arg for node in ast.walk(source.tree) if isinstance(node, ast.arg)}
        bound |= {
            node.name
            for node in ast.walk(source.tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        }
        assert not bound & {"input", "filter", "map"}, f"{source.place} shadows {bound & {'input', 'filter', 'map'}}"


def test_every_stated_fault_is_seen() -> None:
    """The reader of imports, on a file that does everything wrong: a rule that cannot fail keeps nothing."""
    wrong = Source(
        "vizcore/wrong.py",
        ast.parse(
            "from vizcore import cam\n"
            "import torchvision.models as tv\n"
            "def late(net):\n"
            "    from matplotlib import pyplot\n"
            "    net.register_forward_hook(print)\n"
        ),
    )
    assert offenders([wrong], "vizcore.cam", "torchvision", "matplotlib.pyplot", "streamlit") == {
        "vizcore/wrong.py": {"vizcore.cam", "torchvision.models", "matplotlib.pyplot"}
    }
    assert wrong.attributes & HOOKS == {"register_forward_hook"}


def test_what_need_not_be_there_is_imported_late_by_one_file() -> None:
    for package, file in OPTIONAL.items():
        assert set(offenders(read("vizcore", "models", "app_pages", "commands", "app.py"), package)) == {file}
        (source,) = read(file)
        assert not [node for node in source.tree.body if package in ast.unparse(node).split("\n")[0].split()]
        lines = (ROOT / f"requirements-{package}.txt").read_text().splitlines()
        assert [line for line in lines if re.match(rf"{package}\b.*==", line)]


def test_what_the_app_needs_stands_in_requirements_txt() -> None:
    """Imports, and packages whose data files are looked up by name: the tests' own requirements would hide a gap."""
    names = set()
    for source in read("app.py", "app_pages", "commands", "models", "vizcore"):
        names |= {name.split(".")[0] for name in source.imports}
        for call in source.calls:
            function = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if function in ("find_spec", "guarded_import", "_carried_file"):
                names |= {arg.value.split(".")[0] for arg in call.args[:1] if isinstance(arg, ast.Constant)}
    distributions = packages_distributions()
    own = {"app_pages", "commands", "models", "vizcore", *OPTIONAL}
    needed = {
        re.sub(r"[-_.]+", "-", distributions[name][0]).lower()
        for name in names - own
        if name not in sys.stdlib_module_names and not name.startswith("_")  # "_C": a file inside torchvision
    }
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines if "==" in line}
    assert len(needed) > 10
    assert needed <= listed
