"""The files of a bundle, read so that what is used is what was verified: hash and bytes come from one read.

A file that is swapped between a check and its use would be used unchecked. Here nothing is read a second time.
"""

from __future__ import annotations

import hashlib
from io import BufferedReader
from pathlib import Path

from refsynth.bundle.manifest import opened, read_manifest
from refsynth.core.errors import BundleError


class Files:
    """The files of a bundle's folder.

    Raises:
        BundleError: it has no good manifest, or other files than that names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, read_manifest(folder)
        self._unread = set(self.manifest.files)

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            BundleError: they are not those that the manifest names, or it is no plain file.
        """
        return self._checked(name, keep=True)

    def check_unread(self) -> None:
        """Compare the files that nobody has read with the manifest.

        Raises:
            BundleError: one is not what the manifest names.
        """
        for name in sorted(self._unread):
            self._checked(name, keep=False)

    def _checked(self, name: str, *, keep: bool) -> bytes:
        """Return the bytes of a file, or none where they need not be kept in memory."""
        path, entry, data = self.folder / name, self.manifest.files[name], b""
        try:
            with opened(path) as (stream, size):
                if size == entry.size and keep:
                    data = stream.read(size)
                intact = size == entry.size and (_of(data) if keep else _of_stream(stream)) == entry.sha256
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


def _of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _of_stream(stream: BufferedReader) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()
