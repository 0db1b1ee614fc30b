"""What Sphinx generates: the reference of the public names, that of the command line, the pages of the notebooks."""

import re
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent / "notebooks"

GROUPS = {
    "Catalogs and scenes": ["open_catalog", "build_catalog", "demo_catalog", "Scene", "scenes_frame", "ReadPolicy"],
    "Sensors": ["SENSORS", "SensorSpec", "BandSpec", "Calibration", "QualityRule", "register_sensor"],
    "Cubes": [
        "common_geobox", "load_cube", "Modality", "calibrated", "composite", "check_radiometry", "group_sites",
        "from_xarray",
    ],
    "Text in place and time": [
        "Annotations", "annotations_of", "read_annotations", "read_questions", "derive_annotations",
    ],
    "Chips and splits": [
        "Chip", "Window", "ChipGrid", "SpatialSplit", "split_places", "random_chips", "balanced_chips", "label_counts",
        "centred_chips", "timed_chips", "chips_frame",
    ],
    "Chips as data": [
        "Target", "rasterize_labels", "ChipDataset", "ChipLoader", "ChipReader", "ChipBatches", "Normaliser",
    ],
    "Chip stores": ["StoredChips", "StorePart", "write_store", "verify_store", "find_leaks"],
    "torchgeo": ["to_torchgeo", "from_torchgeo"],
    "Models and training": [
        "ModelSpec", "register_fusion", "get_task", "register_task", "TrainData", "TrainSettings", "fit", "HeldOut",
        "evaluate", "calibrate", "ClassSpec",
    ],
    "Model packages": ["ModelPackage", "load_package", "InputContract", "save_package"],
    "Prediction": [
        "predict", "PredictSettings", "settings_for", "predict_blocks", "Predictor", "predictor_of_module",
        "Prediction", "LayerSpec", "predict_map", "to_xarray",
    ],
    "Maps": ["write_products", "Provenance"],
    "Search": [
        "open_index", "index_source", "Index", "IndexSettings", "index_cube", "Embedder", "merge_indexes",
        "search_partitions", "verify_index", "gallery", "Question",
    ],
    "Where words hold": ["ground", "Prompts", "read_prompts", "zero_shot"],
    "Recipes": ["RunConfig", "load_recipe", "run", "run_search", "recipe_chips"],
    "Batches": ["load_batch", "run_batch", "BatchOptions"],
    "Errors": ["GeommError", "explain"],
}  # fmt: skip
"""The public names in the order of a scene's way; tests/test_93_reference.py compares them with `geomm.__all__`."""


def api() -> str:
    """Return the page of the public names."""
    import geomm

    lines = ["# The Python API", "", "In the order of a scene's way. All names are those of `import geomm`.", ""]
    for title, names in GROUPS.items():
        lines += [f"## {title}", ""]
        for name in names:
            thing = getattr(geomm, name)
            if isinstance(thing, type):
                what, options = "autoclass", [":members:"]
            else:
                what, options = ("autofunction", []) if callable(thing) else ("autodata", [":no-value:"])
            lines += ["```{eval-rst}", f".. {what}:: geomm.{name}", *(f"   {o}" for o in options), "```", ""]
    return "\n".join(lines)


PREFACE = """Every command explains itself with `--help`. Errors are one line that says what, where, why and what to do
next. Status 0 is success, 1 an error, 2 a wrong command or recipe; `geomm run` has more. `geomm --install-completion`
lets the shell complete commands, options, sensors, layers, fusions and recipes."""


def command_line() -> str:
    """Return the page of the commands, as their `--help` has it."""
    import typer

    from geomm.cli import app

    group = typer.main.get_command(app)
    lines = ["# The command line", "", group.help, "", PREFACE, ""]
    for path, command in _commands(group, ("geomm",)):
        help_, _, example = command.help.partition("Example: ")
        usage = " ".join([*path, *(_metavar(p) for p in command.params if p.param_type_name == "argument")])
        lines += [f"## {' '.join(path)}", "", "```text", f"{usage} [OPTIONS]", "```", "", help_.strip(), ""]
        lines += [f"Example: {' '.join(example.split())}", ""] if example else []
        rows = [p for p in command.params if p.name != "help"]
        lines += ["| | |", "|---|---|", *(f"| {_called(p)} | {_told(p)} |" for p in rows), ""] if rows else []
    return "\n".join(lines)


def _commands(group, path):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _metavar(parameter) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _called(parameter) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    return ", ".join(f"`{o}`" for o in parameter.opts)


def _told(parameter) -> str:
    text = (parameter.help or "").replace("|", "\\|")
    text = re.sub(r"<(\w+)>", r"`<\1>`", text)
    default = parameter.default
    shown = (
        isinstance(default, (str, int, float))
        and not isinstance(default, bool)
        and default != ""
        and "default" not in text
    )
    return f"{text}; default {default}" if shown else text


def notebooks() -> str:
    """Copy the notebooks to where Sphinx finds them, and return the page that lists them; it is empty without any."""
    target = HERE / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    found = sorted(NOTEBOOKS.glob("[0-9]*.py"))
    if not found:
        return ""
    target.mkdir()
    for path in found:
        shutil.copy(path, target / path.name)
    names = "\n".join(f"notebooks/{p.stem}" for p in found)
    return f"# Notebooks\n\n```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"


PAGES = {"api": api, "cli": command_line, "notebooks": notebooks}


def _write(app) -> None:
    """Write the generated pages beside the others; git ignores them."""
    for name, page in PAGES.items():
        path, text = HERE / f"{name}.md", page()
        if not text:
            path.unlink(missing_ok=True)
        elif not path.is_file() or path.read_text() != text:
            path.write_text(text)


def setup(app):
    """Let the pages be written before Sphinx looks for them."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
