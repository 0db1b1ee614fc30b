"""Commands for chip stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomm.cli import complete
from geomm.cli.options import SetOption, assignment
from geomm.errors import ConfigError

app = typer.Typer(help="Chip stores: chips cut once, read many times.", no_args_is_help=True)

_CODECS = {"none": "plain", "lz4": "LZ4"}

StoreArgument = Annotated[Path, typer.Argument(help="chip store (folder)")]


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see pipelines/", autocompletion=complete.recipes)],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the store")],
    set_: SetOption = None,
    compress: Annotated[
        bool | None,
        typer.Option(
            "--compress/--no-compress",
            help="imagery in LZ4: fewer bytes, built and read more slowly",
            show_default=False,
        ),
    ] = None,
    share: Annotated[str, typer.Option(help="which part of the shards to write: 0/4 is the first of four")] = "0/1",
) -> None:
    """Cut the chips of a recipe into a store; stopped, the same command goes on where it was.

    Example: `geomm chips build pipelines/clouds_landsat.yaml -o chips`
    """
    from geomm.config import load_recipe
    from geomm.pipeline.chips import build_chips
    from geomm.progress import Bars
    from geomm.store import StoredChips

    part = _share(share)
    with Bars() as bars:
        config = load_recipe(recipe, dict(assignment(text) for text in set_ or ()))
        folder = build_chips(config, out, compress=compress, share=part, progress=bars.update)
    store = StoredChips(folder)
    typer.echo(f"{folder}: {len(store)} chips{'' if store.complete else ', not complete yet'}")


@app.command()
def info(store: StoreArgument) -> None:
    """Say what a store holds.

    Example: `geomm chips info chips`
    """
    from geomm.store import StoredChips

    chips = StoredChips(store)
    size = sum(p.stat().st_size for p in store.rglob("*") if p.is_file())
    typer.echo(f"{store}: {len(chips)} chips, {size / 1e6:.1f} MB, {'complete' if chips.complete else 'NOT complete'}")
    for spec in chips.arrays:
        bands = spec.attrs.get("bands", [])
        typer.echo(
            f"  {spec.name:20} {' x '.join(map(str, spec.shape)):18} {spec.dtype:8} {_CODECS[spec.codec]:5} "
            f"{spec.attrs.get('units', '')} "
            f"{'/'.join(bands)}".rstrip()
        )
    for site in dict.fromkeys(s["site"] for s in chips.about["sites"]):
        parts = [s for s in chips.about["sites"] if s["site"] == site]
        items = sorted({i for s in parts for i in s["items"]})
        typer.echo(f"  {site}: {sum(s['chips'] for s in parts)} chips of {', '.join(items)}")
    if "split" in chips.table:
        counts = chips.table.groupby("split", sort=False).size()
        typer.echo("  " + ", ".join(f"{name}: {count}" for name, count in counts.items()))


@app.command()
def verify(store: StoreArgument) -> None:
    """Compare every byte of a store with its checksum; status 1 if any is damaged or missing.

    Example: `geomm chips verify chips`
    """
    from geomm.progress import Bars
    from geomm.store import StoredChips, verify_store

    chips = StoredChips(store)
    with Bars() as bars:
        found = verify_store(chips, progress=bars.update)
    for line in found:
        typer.echo(line)
    repair = "; remove the files named above and build again" if found else ""
    part = "" if chips.complete else f", but not complete: {len(chips)} of {chips.total} chips; build again to go on"
    typer.echo(f"{store}: {f'{len(found)} damaged' if found else 'whole'}{repair}{part}")
    raise typer.Exit(1 if found else 0)


@app.command()
def leaks(
    store: StoreArgument,
    column: Annotated[str, typer.Option(help="of the manifest, by which chips are told apart")] = "split",
) -> None:
    """Say what the splits of a store have in common, and how far apart they are; status 1 if they share anything.

    Example: `geomm chips leaks chips`
    """
    from geomm.progress import Bars
    from geomm.store import StoredChips, find_leaks

    with Bars() as bars:
        found = find_leaks(StoredChips(store), column=column, progress=bars.update)
    for leak in found:
        typer.echo(str(leak))
    raise typer.Exit(0 if all(leak.clean for leak in found) else 1)


@app.command()
def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the GeoTIFFs")],
    split: Annotated[str | None, typer.Option(help="only chips of this split")] = None,
) -> None:
    """Write chips as GeoTIFFs, one for each chip and modality, with a mask of what is valid.

    Example: `geomm chips export chips -o tiles --split test`
    """
    from geomm.export.chips import export_chips
    from geomm.pipeline.sources import local_folder
    from geomm.progress import Bars
    from geomm.store import StoredChips

    chips = StoredChips(store)
    if (out / "plan.json").is_file():
        raise ConfigError("the folder is a chip store", where=str(out), fix="name another one: -o tiles")
    with Bars() as bars:
        count = export_chips(chips.select(split=split) if split else chips, local_folder(out), progress=bars.update)
    typer.echo(f"{out}: {count} files")


def _share(text: str) -> tuple[int, int]:
    try:
        number, count = (int(v) for v in text.split("/"))
    except ValueError as error:
        raise ConfigError("the share is not number/count", where=text, fix="for example --share 0/4") from error
    if not 0 <= number < count:
        raise ConfigError("the share's number is below its count", where=text, fix="the first of four is 0/4")
    return number, count
