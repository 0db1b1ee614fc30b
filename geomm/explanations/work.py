"""Codes about models, outputs, recipes and batches."""

from __future__ import annotations

from geomm.explanations.record import Explanation

WORK = (
    Explanation(
        "E501",
        "ContractError",
        "Imagery, text or settings do not meet what a model says that it needs.",
        (
            "Imagery of another sensor, of other bands, or in another order than the model was trained with.",
            "Another unit or pixel size; a chip size that is no multiple of what the network needs.",
            "A task that the model was not made for, such as words for a model that only maps classes.",
        ),
        (
            "Read what the model wants: README.md and the item in the folder of the model package.",
            "See what the catalog offers: `geomm catalog search CATALOG`, and `geomm sensors`",
            "Bring imagery to its pixel size: `geomm predict MODEL CATALOG -o maps --resolution 10`",
        ),
        "Take a model that was trained on such imagery; the message says what does not fit.",
        ("ValueError",),
    ),
    Explanation(
        "E502",
        "PackageError",
        "A folder is no model package, chip store, index or ledger, or it is damaged or incomplete.",
        (
            "The path leads to another folder: a run instead of its model/, for example.",
            "It was copied while it was written, or in part.",
            "Another version of geomm wrote it.",
        ),
        (
            "Compare every byte with its checksum: `geomm verify FOLDER`",
            "Copy it again from where it was made, or make it again.",
            "Of a chip store: `geomm chips verify STORE`, then `geomm chips build RECIPE -o STORE`",
        ),
        "Check the model package with geomm verify and copy it again.",
        ("ValueError",),
    ),
    Explanation(
        "E503",
        "ModelChangedError",
        "A model package was replaced while a run was at work with it.",
        ("Someone trained or copied a new model to the same place.",),
        ("Run the same command again: it takes the new model, and makes again what the old one made.",),
        "The model was replaced during the run: the same command takes the new one.",
        ("ValueError",),
        retry=True,
    ),
    Explanation(
        "E601",
        "OutputError",
        "A product cannot be written, or its place holds something else.",
        (
            "The disk is full, or the folder may not be written to.",
            "The folder holds files of something else, which geomm does not overwrite.",
        ),
        (
            "See free space and rights: `geomm doctor --without-test`, `df -h .`",
            "Name another folder with --out or -o, or move away what is in this one.",
            "Then run the same command: what was finished is kept.",
        ),
        "Free space on the disk, or correct the permissions of the output; then try again.",
        ("OSError",),
    ),
    Explanation(
        "E602",
        "NondeterminismError",
        "A unit of work that was published before came out with other bytes.",
        (
            "A file changed under the same name and date.",
            "Another version of a library, another device, or another number of threads.",
        ),
        ("Check what is published: `geomm verify OUT`", "Remove the older one if it is bad, and run the same command."),
        "Find out what changed without changing the unit; remove the older one if it is bad.",
        ("OSError",),
    ),
    Explanation(
        "E603",
        "TargetUnavailableError",
        "The place for products did not answer, or another process holds it.",
        (
            "The object store is down, or limits how often it is asked.",
            "A process hangs that holds a lock on the folder.",
        ),
        ("Try again later; a batch does so by itself.", "See what is at work: `geomm runs list OUT`"),
        "The output did not answer: try again later.",
        ("OSError",),
        retry=True,
    ),
    Explanation(
        "E701",
        "ConfigError",
        "A recipe, an option or an argument cannot be understood. The command ends with status 2.",
        (
            "A key of a recipe that does not exist, a value out of its range, or YAML that is indented wrongly.",
            "An argument of another kind: a path where scenes are wanted, metres where degrees are wanted.",
            "Two options that exclude each other.",
        ),
        (
            "Correct the field that the message names; recipes to begin with are in pipelines/.",
            "See all options of a command: `geomm run --help`",
            "Try a batch without writing anything: `geomm run RECIPE --out OUT --dry-run`",
        ),
        "Correct the field of the recipe that the message names.",
        ("ValueError",),
    ),
    Explanation(
        "E702",
        "DependencyError",
        "An optional package is not installed.",
        ("geomm was installed without its extras, which is right for reading catalogs and cubes.",),
        (
            "Models: `uv pip install 'geomm[train]'`; words: `uv pip install 'geomm[text]'`",
            "Clusters: `uv pip install 'geomm[cluster]'`; object stores: `uv pip install 'geomm[objects]'`",
            "See what is there and what is missing: `geomm doctor`",
        ),
        "Install the package that the message names.",
        ("ImportError",),
    ),
    Explanation(
        "E801",
        "BusyError",
        "Another run is writing to the same output. The command ends with status 75.",
        ("A scheduler started the next run before the last one ended.", "A run was started by hand meanwhile."),
        ("See how far it is: `geomm runs list OUT`", "Wait for it: a lock is free as soon as its process is gone."),
        "Wait for the other run: geomm runs list says how far it is.",
        ("BlockingIOError",),
    ),
    Explanation(
        "E802",
        "TooManyFailuresError",
        "More units of a batch failed than it may have, so it stopped. The command ends with status 4.",
        ("One trouble that all units share: a wrong path, no network, a full disk, a model for other imagery.",),
        (
            "See what most of them say: `geomm runs show OUT --state failed`",
            "Remedy it and try them again: `geomm runs retry OUT`, then the same command.",
            "If so many may fail: `geomm run RECIPE --out OUT --max-failures 1000`",
        ),
        "Remedy what most of the messages say, then try again; more may fail with --max-failures.",
        ("RuntimeError",),
    ),
    Explanation(
        "E901",
        "Stopped",
        "A unit was at work when the run was told to stop and its time to finish was over.",
        ("Ctrl-C, or a scheduler's SIGTERM.",),
        (
            "Run the same command again: it goes on there.",
            "Give units more time to finish: `geomm run RECIPE --out OUT --grace 120`",
        ),
        "Run the same command again: it was stopped while at work.",
        ("InterruptedError",),
    ),
    Explanation(
        "E902",
        "NothingThereError",
        "Imagery without a single valid pixel: there is nothing to make of it.",
        ("The scene is all cloud or nodata over the area.", "The footprint touches the area, its pixels do not."),
        ("Nothing; the unit is skipped, and not looked at again.", "See which: `geomm runs show OUT --state skipped`"),
        "Nothing: there is nothing to be made of it.",
        ("ValueError",),
    ),
    Explanation(
        "WORKER_LOST",
        "WORKER_LOST",
        "The process that worked on a unit was gone without a word: killed, out of memory, or crashed.",
        (
            "Memory was short, and the system killed it.",
            "A library crashed on a damaged file.",
            "A machine of the cluster was switched off.",
        ),
        (
            "See whether memory was short: `journalctl -k`",
            "Run fewer at a time: `geomm run RECIPE --out OUT --workers 1`",
            "Try units that were put aside again: `geomm runs retry OUT`",
        ),
        "See whether memory was short (fewer --workers); then try the item by itself.",
        retry=True,
    ),
)
"""Explanations of E501 and above, and of what is no error of geomm."""
