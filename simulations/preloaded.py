"""All that a site's round needs, imported once: for this process or for its workers.

Importing this takes seconds, which is why nothing imports it that does not work with an
encoder.
"""

from importlib import import_module

from shared.imports import uncollected

NEEDED = (
    "dp_accounting.pld.privacy_loss_distribution",
    "client.releases",
    "client.round",
    "shared.start",
    "simulations.scores",
)

with uncollected():
    for name in NEEDED:
        import_module(name)
