"""A site runs what it rebuilt from source and signed for, and nothing else."""

import shutil
import zipfile
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from client.approval import (
    Approval,
    Refusal,
    approve,
    approved,
    changes,
    kept,
    note_refused,
    require_approved,
    require_built,
    revoke,
    statement,
    waiting,
)
from client.commands import approve as commands_approve
from client.site import Site
from shared.bundle import build_bundle, bundle_code, bundle_digest, bundle_files
from shared.entries import canonical
from shared.errors import CodeRefused, ConfigError
from shared.invitation import to_text
from shared.signing import load_key, make_key, sign
from tests.factories import write_site
from tests.shared.checkouts import built, tiny_checkout
from tests.shared.papers import an_invitation
from tests.standin import key_of

TIME = "2026-11-21T08:00:00+00:00"


def a_site(folder: Path) -> Site:
    site = write_site(folder)
    make_key(folder / "site.key")
    return site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return a_site(tmp_path / "site")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return tiny_checkout(tmp_path / "old", client__round="a = 1\n")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """The next release: another version, a line more in one file, another file."""
    changed = {"client__round": "a = 1\nb = 2\n", "client__more": "c = 3\nd = 4\n"}
    return tiny_checkout(tmp_path / "new", "0.2.0", **changed)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, bytes]:
    """A site that approved a tiny bundle, and the bundle."""
    folder = tmp_path_factory.mktemp("known")
    site, source = a_site(folder / "site"), tiny_checkout(folder / "source")
    approve(site, built(source), source)
    return site, built(source)


def zipped(**entries: bytes) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/") + ".py", content)
    return made.getvalue()


def test_what_the_installed_source_builds_is_approved_and_then_may_run(
    site: Site,
) -> None:
    content = build_bundle()
    with pytest.raises(CodeRefused, match=bundle_digest(content)):
        require_approved(site.folder, content)

    made = approve(site, content, now=lambda: TIME)

    require_approved(site.folder, content)
    assert (made.bundle, made.time) == (bundle_digest(content), TIME)
    assert made.code == bundle_code(content)
    assert approved(site) == [made]
    assert kept(site, made) == content
    assert (site.folder / "approved").stat().st_mode & 0o777 == 0o700


def test_a_bundle_that_the_source_does_not_build_is_refused_with_all_versions(
    site: Site, old: Path, new: Path
) -> None:
    with pytest.raises(CodeRefused) as refused:
        approve(site, built(new), old)

    told = str(refused.value)
    ours, theirs = bundle_digest(built(old)), bundle_digest(built(new))
    assert f"bundle {theirs} (made for tacit 0.2.0, flwr 1.41.0)" in told
    assert f"{ours} (made for tacit 0.1.0, flwr 1.41.0; here runs tacit 0.1.0" in told
    assert "differ: client/more.py, client/round.py, pyproject.toml. Install" in told
    assert "--source" in told
    assert approved(site) == []


def test_a_bundle_is_approved_from_the_checkout_that_builds_it(
    site: Site, old: Path, new: Path
) -> None:
    second = approve(site, built(new), new, now=lambda: TIME)
    first = approve(site, built(old), old, now=lambda: "2026-01-01T00:00:00+00:00")

    assert approved(site) == [first, second]
    assert first.code != second.code


def test_the_same_files_in_other_bytes_are_refused(old: Path) -> None:
    made, content = BytesIO(), built(old)
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in bundle_files(content).items():
            archive.writestr(zipfile.ZipInfo(name), text)

    with pytest.raises(CodeRefused, match="none, only how they are packed"):
        require_built(made.getvalue(), old)
    with pytest.raises(CodeRefused, match="cannot be read as a zip"):
        require_built(b"no zip", old)


@given(data=st.data())
def test_one_changed_byte_of_an_approved_bundle_is_refused(
    data: st.DataObject, known: tuple[Site, bytes]
) -> None:
    site, content = known[0], bytearray(known[1])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    require_approved(site.folder, known[1])
    with pytest.raises(CodeRefused):
        require_approved(site.folder, bytes(content))


@given(data=st.data())
def test_one_changed_byte_of_an_approval_is_refused(
    data: st.DataObject, known: tuple[Site, bytes]
) -> None:
    site, content = known
    path = site.folder / "approved" / f"{bundle_digest(content)}.json"
    signed = path.read_bytes()
    edited = bytearray(signed)
    place = data.draw(st.integers(0, len(edited) - 1))
    edited[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(edited)

    try:
        assert approved(site) == []
        with pytest.raises(CodeRefused):
            require_approved(site.folder, content)
    finally:
        path.write_bytes(signed)
    require_approved(site.folder, content)


def test_an_approval_of_another_site_does_not_count(
    site: Site, known: tuple[Site, bytes]
) -> None:
    other, content = known
    shutil.copytree(other.folder / "approved", site.folder / "approved")

    with pytest.raises(CodeRefused):
        require_approved(site.folder, content)


def test_an_approval_of_another_bundle_does_not_count(
    site: Site, old: Path, new: Path
) -> None:
    made, content = approve(site, built(old), old), built(new)
    folder = site.folder / "approved"
    (folder / f"{made.bundle}.json").rename(folder / f"{bundle_digest(content)}.json")

    with pytest.raises(CodeRefused):
        require_approved(site.folder, content)


def test_a_signature_for_another_purpose_does_not_count(site: Site, old: Path) -> None:
    """What the same key signs elsewhere, such as its ledger, approves nothing."""
    content, key = built(old), load_key(site.folder / "site.key")
    digest, code = bundle_digest(content), bundle_code(content)
    said = statement(digest, code, TIME).replace("bundle approval", "ledger entry")
    forged = Approval(bundle=digest, code=code, time=TIME, signature=sign(key, said))
    (site.folder / "approved").mkdir()
    path = site.folder / "approved" / f"{digest}.json"
    path.write_text(canonical(asdict(forged)), "utf-8")

    with pytest.raises(CodeRefused):
        require_approved(site.folder, content)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "{}", '"text"', "[[[["),
        '{"bundle":"a","code":"b","time":"c","signature":"d"}',
        '{"bundle":"a","code":"b","time":"c","signature":"d","more":"e"}',
    ],
)
def test_what_is_no_approval_does_not_count(site: Site, old: Path, text: str) -> None:
    content = built(old)
    (site.folder / "approved").mkdir()
    path = site.folder / "approved" / f"{bundle_digest(content)}.json"
    path.write_text(text, "utf-8")

    with pytest.raises(CodeRefused):
        require_approved(site.folder, content)


def test_without_the_sites_key_nothing_is_approved(site: Site, old: Path) -> None:
    approve(site, built(old), old)
    (site.folder / "site.key").unlink()

    with pytest.raises(ConfigError, match=r"site\.key cannot be read"):
        require_approved(site.folder, built(old))


def test_what_is_revoked_may_not_run(site: Site, old: Path) -> None:
    made = approve(site, built(old), old)

    revoke(site, made.bundle)

    with pytest.raises(CodeRefused):
        require_approved(site.folder, built(old))
    assert list((site.folder / "approved").iterdir()) == []
    with pytest.raises(ConfigError, match="is not approved here"):
        revoke(site, made.bundle)
    with pytest.raises(ConfigError, match="is not approved here"):
        revoke(site, "../site")


def test_bytes_that_were_changed_since_are_not_shown_as_approved(
    site: Site, old: Path
) -> None:
    made = approve(site, built(old), old)
    (site.folder / "approved" / f"{made.bundle}.fab").write_bytes(b"other")

    assert kept(site, made) is None


def test_changes_are_listed_by_file_with_their_lines() -> None:
    old = zipped(client__a=b"1\n2\n3\n", client__b=b"gone\n", client__same=b"x\n")
    new = zipped(client__a=b"1\n-2\n3\n4\n", client__c=b"++new\n", client__same=b"x\n")

    found = {change.path: change for change in changes(old, new)}

    assert {path: (c.added, c.removed) for path, c in found.items()} == {
        "client/a.py": (2, 1),
        "client/b.py": (0, 1),
        "client/c.py": (1, 0),
    }
    assert "+-2" in found["client/a.py"].diff.splitlines()
    assert changes(old, old) == []


@given(st.text(max_size=60))
def test_no_text_of_a_bundle_moves_a_terminals_cursor_or_hides(text: str) -> None:
    (change,) = changes(
        zipped(client__a=b""), zipped(client__a=b"#" + text.encode() + b"\n\xff")
    )

    assert all(one.isprintable() or one in "\n\t" for one in change.diff)
    assert change.diff.count("\n") <= text.count("\n") + 6


def test_a_refused_bundle_waits_until_it_is_approved(site: Site, old: Path) -> None:
    digest = bundle_digest(built(old))
    assert waiting(site.folder) is None

    note_refused(site.folder, digest, lambda: TIME)
    assert waiting(site.folder) == Refusal(digest, TIME)
    approve(site, built(old), old)
    assert waiting(site.folder) is None


@pytest.mark.parametrize("noted", ["", "[]", "{}", '{"digest": 1}', "nul"])
def test_a_torn_note_of_a_refusal_is_no_refusal(site: Site, noted: str) -> None:
    (site.folder / "node").mkdir()
    (site.folder / "node" / "refused.json").write_text(noted, "utf-8")

    assert waiting(site.folder) is None


app = typer.Typer()
app.command()(commands_approve.approve)
app.callback()(lambda: None)


def typed(*words: str | Path, answer: str = "") -> str:
    """What a person sees; a refusal is raised as it is."""
    done = CliRunner().invoke(app, ["approve", *map(str, words)], input=answer)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_first_approval_says_how_much_there_is_to_read_and_asks(
    site: Site, old: Path
) -> None:
    bundle = old / "bundle.fab"
    bundle.write_bytes(built(old))
    words = (bundle, site.folder, "--source", old)

    shown = typed(*words, answer="n\n")
    assert "none was approved before" in shown
    assert "7 files of Python, 4 lines" in shown
    assert approved(site) == []

    shown = typed(*words, answer="y\n")
    (made,) = approved(site)
    assert f'code = "{made.code}"' in shown

    assert "It is approved already." in typed(*words)


def test_a_later_approval_shows_what_changed(site: Site, old: Path, new: Path) -> None:
    first = approve(site, built(old), old)
    bundle = new / "bundle.fab"
    bundle.write_bytes(built(new))

    shown = typed(bundle, site.folder, "--source", new, "--diff", "--yes")

    assert f"Since {first.bundle}" in shown
    assert "+1     -0     client/round.py" in shown
    assert "+2     -0     client/more.py" in shown
    assert "3 files changed" in shown
    assert "+b = 2" in shown.splitlines()
    assert len(approved(site)) == 2


def test_an_altered_bundle_is_refused_before_anyone_is_asked(
    site: Site, old: Path
) -> None:
    bundle = old / "bundle.fab"
    bundle.write_bytes(built(old).replace(b"a = 1", b"a = 2"))

    with pytest.raises(CodeRefused):
        typed(bundle, site.folder, "--source", old, "--yes")
    assert approved(site) == []


def test_the_source_alone_is_approved_if_the_invitation_asks_for_it(
    site: Site, old: Path, new: Path
) -> None:
    invited = an_invitation(bundle=bundle_digest(built(old)))
    text = to_text(invited, key_of("operator"))
    (site.folder / "join.toml").write_text(text, "utf-8")

    with pytest.raises(CodeRefused) as refused:
        typed(site.folder, "--source", new, "--yes")
    typed(site.folder, "--source", old, "--yes")

    assert [made.bundle for made in approved(site)] == [invited.bundle]
    told = str(refused.value)
    assert f"asks for bundle {invited.bundle} (tacit 0.1.0, flwr 1.41.0)" in told
    assert f"{bundle_digest(built(new))} (tacit 0.2.0, flwr 1.41.0; here runs" in told


def test_the_list_shows_what_waits_and_an_approval_can_be_taken_back(
    site: Site, old: Path
) -> None:
    made = approve(site, built(old), old)
    note_refused(site.folder, "5" * 64)

    shown = typed(site.folder, "--list")

    assert f"{made.bundle}\n1 bundles may run" in shown
    assert "5" * 64 in shown
    assert made.bundle in typed(site.folder, "--revoke", made.bundle)
    assert approved(site) == []


def test_a_missing_file_is_named(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.fab cannot be read: No such file"):
        typed(tmp_path / "none.fab", site.folder)
    with pytest.raises(ConfigError, match=r"join\.toml cannot be read: No such file"):
        typed(site.folder)
