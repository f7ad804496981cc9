"""The workbench: held between rounds, and another one as soon as a file is another."""

import os
from pathlib import Path

from client.workbench import workbench
from tests.factories import tiny_spec, write_site


def test_a_file_with_an_older_date_is_another_file(tmp_path: Path) -> None:
    """A partner's export may keep the date of what it was made from."""
    site, spec = write_site(tmp_path, 20), tiny_spec()
    first = workbench(site, spec)
    events = next(f for f in site.data.iterdir() if "interactions" in f.name)
    fresh = tmp_path / "another"
    fresh.write_bytes(events.read_bytes())
    os.utime(fresh, (1, 1))

    assert workbench(site, spec) is first
    fresh.replace(events)
    assert workbench(site, spec) is not first
