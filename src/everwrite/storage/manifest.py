"""The manifest: a small JSON file that says what a data directory is, before any engine touches it.

``<directory>/everwrite.json`` holds the format number and the engine's name, and the node's and the
cluster's ids once the node has written its own state: so an engine that comes up empty is known to
have lost it. Once the node is no member any more it says so too, to those that open no engine. It
is written through a temporary file, fsync, rename and fsync of the directory: a crash leaves the
old state or the new one. A directory that holds anything but has no manifest is refused: it is
either somebody's documents or a store whose manifest was lost, and neither may be written over.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from everwrite.core.errors import StorageError, WrongFormat
from everwrite.storage.lock import LOCK_NAME

MANIFEST_NAME = "everwrite.json"
FORMAT = 2
"""The layout of keys, the checksums and the engines' files, as one number. 2: versions may end."""

RESTORE = (
    "Restore this directory, or replace the node: start an empty one with --join, then "
    "`everwrite plan replace`."
)
"""What to do about a node whose data is lost or damaged."""

_TEMPORARY_NAME = MANIFEST_NAME + ".new"
_FIRST_FILES = {"rocksdb": "rocksdb/CURRENT", "sqlite": "everwrite.sqlite"}
"""Per engine the file without which it would begin anew."""
_NOT_OURS_BUT_HARMLESS = frozenset({LOCK_NAME, _TEMPORARY_NAME, "lost+found"})


class Manifest(msgspec.Struct, frozen=True):
    """What a data directory says of itself."""

    format: int
    engine: str
    node_id: str = ""
    """In hex; empty until the node's state is on the disk (and in what older versions wrote)."""
    cluster_id: str = ""
    gone: str = ""
    """``left`` or ``removed`` once the node is no member any more."""


def prepare_directory(directory: Path) -> None:
    """Make the directory, for this user only (0700); StorageError if that cannot be."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(
            f"The data directory {directory} is a file, or lies below one.",
            hint="Name a directory; it is made if it does not exist.",
        ) from error
    except OSError as error:
        raise _no_access(directory, error) from error


def refuse_unfit(directory: Path, engine: str) -> bool:
    """Return whether the directory is this engine's already; False: it is empty and may become so.

    Raises WrongFormat or StorageError if it is neither; changes nothing.
    """
    try:
        found = _read(directory)
        if found is None:
            _refuse_foreign_files(directory)
            return False
    except OSError as error:
        raise _no_access(directory, error) from error
    _refuse_other_format(directory, found, engine)
    _refuse_emptied(directory, found)
    return True


def record_node(directory: Path, node_id: bytes, cluster_id: bytes) -> None:
    """Note whose directory this is. The node's own state must be durable by now."""
    try:
        found = _read(directory)
        if found is None:
            raise lost_data(directory, f"its {MANIFEST_NAME}")
        named = msgspec.structs.replace(
            found, node_id=node_id.hex(), cluster_id=cluster_id.hex(), gone=""
        )
        if named != found:
            _write(directory, named)
    except OSError as error:
        raise _no_access(directory, error) from error


def node_of(directory: Path) -> str:
    """Return the id of the node whose state this directory must hold, in hex; empty if none."""
    try:
        found = _read(directory)
    except OSError as error:
        raise _no_access(directory, error) from error
    return found.node_id if found is not None else ""


def record_gone(directory: Path, gone: str) -> None:
    """Note that this directory's node is a member no more, and how that came."""
    try:
        found = _read(directory)
        if found is not None:
            _write(directory, msgspec.structs.replace(found, gone=gone))
    except OSError as error:
        raise _no_access(directory, error) from error


def gone_of(directory: Path) -> str:
    """Return what ``record_gone`` has noted there; empty for a member, and where nothing is."""
    try:
        found = _read(directory)
    except (OSError, StorageError):  # its own start says what is wrong with it
        return ""
    return found.gone if found is not None else ""


def lost_data(directory: Path, what: str) -> StorageError:
    """Return the error of a directory that held a node and does not any more."""
    return StorageError(
        f"The data directory {directory} has lost its data: {what} is gone. Nothing was changed.",
        hint=RESTORE,
    )


def claim_directory(directory: Path, engine: str) -> None:
    """Make the directory this engine's, if it is not yet; raises as ``refuse_unfit`` does.

    The caller holds the directory's lock.
    """
    is_ours = refuse_unfit(directory, engine)
    try:
        if directory.stat().st_mode & 0o077:
            directory.chmod(0o700)
        if not is_ours:
            write_manifest(directory, engine)
    except OSError as error:
        raise _no_access(directory, error) from error


def write_manifest(directory: Path, engine: str) -> None:
    """Write the manifest of a directory that is no node's yet."""
    _write(directory, Manifest(FORMAT, engine))


def _write(directory: Path, manifest: Manifest) -> None:
    """Write the manifest so that a crash leaves the new one whole, or what was there before."""
    temporary = directory / _TEMPORARY_NAME
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(manifest) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(directory / MANIFEST_NAME)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Make the directory's entries (new files, renames) durable."""
    _fsync(directory, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make the file's bytes durable; OSError if they cannot be."""
    _fsync(path, 0)


def _fsync(path: Path, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(directory: Path) -> Manifest | None:
    path = directory / MANIFEST_NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.MsgspecError as error:
        raise WrongFormat(
            f"The manifest {path} cannot be understood ({error}); nothing was changed.",
            hint="If this is an Everwrite directory, put the file back, such as "
            f'{{"format":{FORMAT},"engine":"rocksdb"}}; if not, choose another directory.',
        ) from error


def _refuse_foreign_files(directory: Path) -> None:
    foreign = sorted(entry.name for entry in directory.iterdir())
    foreign = [name for name in foreign if name not in _NOT_OURS_BUT_HARMLESS]
    if foreign:
        raise WrongFormat(
            f"The directory {directory} holds {foreign[0]!r} but no {MANIFEST_NAME}; "
            "nothing was changed.",
            hint="Choose an empty directory. If this one is Everwrite's, its manifest was lost: "
            "put it back.",
        )


def _refuse_emptied(directory: Path, found: Manifest) -> None:
    """A library would make its files anew where they are missing, and all would seem absent."""
    first = _FIRST_FILES.get(found.engine)
    if first is None or (directory / first).exists():
        return
    # A first start that was cut short leaves no table files.
    if found.node_id or any((directory / first).parent.glob("*.sst")):
        raise lost_data(directory, repr(first))


def _refuse_other_format(directory: Path, found: Manifest, engine: str) -> None:
    if found.format > FORMAT:
        raise WrongFormat(
            f"The data directory {directory} has format {found.format}, of a newer version; "
            f"this one knows formats up to {FORMAT}. Nothing was changed.",
            hint="Install a newer Everwrite.",
        )
    if 0 < found.format < FORMAT:
        raise WrongFormat(
            f"The data directory {directory} has format {found.format}, of an older version; "
            f"this one reads format {FORMAT} only. Nothing was changed.",
            hint="Start it with the version that made it; or replace the node: start an empty "
            "directory with --join, then `everwrite plan replace`.",
        )
    if found.format < 1:
        raise WrongFormat(
            f"The data directory {directory} claims format {found.format}, which never was.",
            hint=f"Put back its {MANIFEST_NAME}, or choose another directory.",
        )
    if found.engine != engine:
        raise WrongFormat(
            f"The data directory {directory} was made by the engine {found.engine!r}, "
            f"not {engine!r}. Nothing was changed.",
            hint=f"Use --engine {found.engine}, or another directory.",
        )


def _no_access(directory: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The data directory {directory} cannot be used ({error.strerror or error}).",
        hint="Give this user read and write access to it, free some space if its disk is full, or "
        "choose another one.",
    )
