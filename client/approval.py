"""Which app bundles a site lets run: those it rebuilt from source and signed for.

    approved/<sha256>.json   what was approved, signed with ``site.key``
    approved/<sha256>.fab    its bytes, to show what the next one changes
    node/refused.json        the bundle refused last, which may wait for approval

An approval that was edited, copied from another site or signed with another key does
not count. Nothing of a bundle is unpacked or run here.
"""

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.site import Site
from shared.bundle import (
    INSTALLED,
    MANIFEST,
    build_bundle,
    bundle_code,
    bundle_digest,
    bundle_files,
    bundle_versions,
    installed_versions,
    source_packages,
)
from shared.durable import replace_file, sync_folder
from shared.entries import canonical
from shared.errors import CodeRefused, ConfigError
from shared.signing import is_signed, load_key, public_key, sign

APPROVALS = "approved"
REFUSED = Path("node", "refused.json")
_DIGEST = re.compile("[0-9a-f]{64}")
_SHOWN = 5  # names of files in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What a site signed.

    Attributes:
        bundle: SHA-256 of the bundle's bytes.
        code: Digest of what the bundle runs at a site, as a policy may pin it.
        time: When, UTC, for people to read.
        signature: Of ``statement`` by the site's key.
    """

    bundle: str
    code: str
    time: str
    signature: str


@dataclass(frozen=True, slots=True)
class Change:
    """How one file differs between two bundles; the diff is safe on a terminal."""

    path: str
    added: int
    removed: int
    diff: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A bundle that a server sent and the site did not let run."""

    digest: str
    time: str


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def approve(
    site: Site,
    content: bytes,
    source: Path | None = None,
    *,
    now: Callable[[], str] = _utc_now,
) -> Approval:
    """Let a bundle run at the site: rebuild it, compare, sign, keep its bytes.

    Guarantee: what is approved is byte for byte what ``source`` builds.

    Args:
        site: Whose key signs.
        content: The bundle.
        source: Folder of the reviewed source; the installed one by default.
        now: Gives the time of the approval.

    Raises:
        CodeRefused: If the source builds another bundle.
        ConfigError: If the source or the site's key cannot be used.
    """
    require_built(content, source)
    key = load_key(site.folder / "site.key")
    bundle, code, time = bundle_digest(content), bundle_code(content), now()
    signature = sign(key, statement(bundle, code, time))
    made = Approval(bundle=bundle, code=code, time=time, signature=signature)
    folder = site.folder / APPROVALS
    folder.mkdir(mode=0o700, exist_ok=True)
    replace_file(folder / f"{bundle}.fab", content)
    replace_file(folder / f"{bundle}.json", canonical(asdict(made)).encode())
    return made


def require_built(content: bytes, source: Path | None = None) -> None:
    """Check that the reviewed source builds exactly this bundle.

    Raises:
        CodeRefused: With both digests, both versions and the files that differ.
    """
    root = INSTALLED if source is None else source.resolve()
    rebuilt = build_bundle(source_packages(root))
    if rebuilt == content:
        return
    paths = [change.path for change in changes(rebuilt, content)]
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    raise CodeRefused(
        f"bundle {bundle_digest(content)} (made for {bundle_versions(content)}) is not "
        f"what {root} builds, {bundle_digest(rebuilt)} (made for "
        f"{bundle_versions(rebuilt)}; here runs {installed_versions()}); files that "
        f"differ: {', '.join(paths[:_SHOWN]) or 'none, only how they are packed'}"
        f"{more}. Install the release it was made for, or review a checkout of it and "
        "give it as --source"
    )


def changes(old: bytes, new: bytes) -> list[Change]:
    """Return what differs between two bundles, by path.

    Raises:
        CodeRefused: If one of them is none that Tacit would have built.
    """
    before, after = bundle_files(old), bundle_files(new)
    return [
        _change(path, before.get(path, b""), after.get(path, b""))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path) and path != MANIFEST
    ]


def require_approved(folder: Path, content: bytes) -> None:
    """Check, before anything reads a bundle, that the site in ``folder`` approved it.

    Guarantee: one changed byte, in the bundle or in its approval, is refused.

    Raises:
        CodeRefused: If there is no approval of these bytes by the site's key.
        ConfigError: If the site's key cannot be read.
    """
    digest = bundle_digest(content)
    if _believed(folder, digest) is None:
        raise CodeRefused(
            f"bundle {digest} is not approved at this site; see what it changes and "
            "approve it with: tacit site approve BUNDLE"
        )


def approved(site: Site) -> list[Approval]:
    """Return the approvals that count, oldest first."""
    names = [path.stem for path in (site.folder / APPROVALS).glob("*.json")]
    found = [_believed(site.folder, name) for name in names]
    return sorted((one for one in found if one), key=lambda one: (one.time, one.bundle))


def kept(site: Site, approval: Approval) -> bytes | None:
    """Return the bytes that were approved, or None if they are no longer there."""
    path = site.folder / APPROVALS / f"{approval.bundle}.fab"
    content = path.read_bytes() if path.is_file() else b""
    return content if bundle_digest(content) == approval.bundle else None


def revoke(site: Site, bundle: str) -> None:
    """Take an approval back, durably; a node that runs the bundle is not stopped.

    Raises:
        ConfigError: If there is no approval of that digest.
    """
    path = site.folder / APPROVALS / f"{bundle}.json"
    if not _DIGEST.fullmatch(bundle) or not path.is_file():
        raise ConfigError(
            f"bundle {bundle!r} is not approved here; tacit site approve --list"
        )
    path.unlink()
    path.with_suffix(".fab").unlink(missing_ok=True)
    sync_folder(path.parent)


def note_refused(folder: Path, digest: str, now: Callable[[], str] = _utc_now) -> None:
    """Write down which bundle the site in ``folder`` refused last."""
    path = folder / REFUSED
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(path, json.dumps({"digest": digest, "time": now()}).encode())


def clear_refused(folder: Path) -> None:
    """Forget the bundle refused last: the server now sends one that is approved."""
    (folder / REFUSED).unlink(missing_ok=True)


def waiting(folder: Path) -> Refusal | None:
    """Return the bundle refused last, unless the site has approved it since."""
    try:
        noted = json.loads((folder / REFUSED).read_text("utf-8"))
        refusal = Refusal(str(noted["digest"]), str(noted["time"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return None if _believed(folder, refusal.digest) else refusal


def statement(bundle: str, code: str, time: str) -> str:
    """Return what an approval's signature is over; it names its own purpose."""
    said = canonical({"bundle": bundle, "code": code, "time": time})
    return f"tacit bundle approval\n{said}"


def _believed(folder: Path, bundle: str) -> Approval | None:
    """Return the approval of ``bundle`` if it is the site's own, unchanged."""
    if not _DIGEST.fullmatch(bundle):
        return None
    try:
        text = (folder / APPROVALS / f"{bundle}.json").read_text("utf-8")
        fields = json.loads(text)
        read = Approval(**{name: str(value) for name, value in fields.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    said = statement(read.bundle, read.code, read.time)
    ours = public_key(load_key(folder / "site.key"))
    whole = read.bundle == bundle and canonical(asdict(read)) == text
    return read if whole and is_signed(ours, said, read.signature) else None


def _change(path: str, old: bytes, new: bytes) -> Change:
    before, after = _lines(old), _lines(new)
    lines = list(difflib.unified_diff(before, after, path, path, lineterm=""))
    return Change(
        path,
        added=sum(line.startswith("+") for line in lines[2:]),
        removed=sum(line.startswith("-") for line in lines[2:]),
        diff="\n".join(lines),
    )


def _lines(content: bytes) -> list[str]:
    """Return the lines; what could move a cursor or hide text is shown as its code."""
    lines = content.decode("utf-8", "backslashreplace").split("\n")
    return ["".join(map(_visible, line)) for line in lines]


def _visible(character: str) -> str:
    plain = character.isprintable() or character == "\t"
    return character if plain else f"\\u{ord(character):04x}"
