"""Reads the files of a bundle; hash and bytes come from the same read.

Nothing is read twice, since a file that is swapped between its check and its use would be used unchecked.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from refsynth.bundle.manifest import opened, read_manifest
from refsynth.core.errors import BundleError


class Files:
    """The files of a bundle's folder.

    Raises:
        BundleError: the manifest is missing or malformed, or names other files than the folder has.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, read_manifest(folder)
        self._unread = set(self.manifest.files)

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            BundleError: the bytes differ from the manifest, or it is not a plain file.
        """
        return self._checked(name, keep=True)

    def check_unread(self) -> None:
        """Compare the files that were not read yet with the manifest.

        Raises:
            BundleError: a file differs from the manifest.
        """
        for name in sorted(self._unread):
            self._checked(name, keep=False)

    def _checked(self, name: str, *, keep: bool) -> bytes:
        """Return the bytes of a file; none without `keep`, which saves the memory."""
        path, entry, data = self.folder / name, self.manifest.files[name], b""
        try:
            with opened(path) as (stream, size):
                if intact := size == entry.size:  # a file of another size is not read at all
                    data = stream.read(size) if keep else b""
                    digest = hashlib.sha256(data) if keep else hashlib.file_digest(stream, "sha256")
                    intact = digest.hexdigest() == entry.sha256
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
        if not intact:
            raise BundleError(
                f"{path}: was changed after the bundle was written",
                expected=f"{entry.size:,} bytes with sha256 {entry.sha256[:12]}…, found {size:,} bytes",
                remedy="export or copy the bundle again",
            )
        self._unread.discard(name)
        return data
