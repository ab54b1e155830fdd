"""The model store: weights fetched by URI into one folder, converted at most once.

``pull.pull_model`` is the way in. Layout of a store::

    <model>/<version>/            what an engine loads, with a manifest ``sluice.json``
    downloads/                    packages kept so that a second pull needs no network
    .staging/<model>@<version>/   a pull under way; the next one goes on from it
    .locks/                       one lock file for each model and version

Nothing here touches the database; ``inference.actions.register_version`` does.
"""
