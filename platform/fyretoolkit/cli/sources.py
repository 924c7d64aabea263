"""Where a model comes from, as people name it: a registered model, a local file or folder, or a URL."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fyretoolkit.client.calls import is_url

_EPOCH = (1980, 1, 1, 0, 0, 0)


@contextmanager
def opened_source(source: str) -> Iterator[str]:
    """What the client takes for it. A folder is a package: it is there as an archive inside the block.

    Raises:
        FileNotFoundError: neither a URL nor a local path.
    """
    path = Path(source)
    if is_url(source) or path.is_file():
        yield source
    elif path.is_dir():
        with tempfile.TemporaryDirectory(prefix="fyre-package-") as folder:
            yield str(_archive(path, Path(folder) / f"{path.resolve().name}.zip"))
    else:
        raise FileNotFoundError(2, "There is no such file, folder or URL", source)


@contextmanager
def opened_model(source: str) -> Iterator[str]:
    """The same for a deployment, where a plain name that is no local path is a registered model's id."""
    is_name = not is_url(source) and "/" not in source and not Path(source).exists()
    if is_name and not source.endswith((".onnx", ".zip", ".gz", ".tgz")):
        yield f"models://{source}"
    else:
        with opened_source(source) as found:
            yield found


def _archive(folder: Path, to: Path) -> Path:
    """The files of a folder as a zip archive, the same bytes for the same files."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                entry = zipfile.ZipInfo(name.as_posix(), date_time=_EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                    while block := source.read(1 << 20):
                        target.write(block)
    return to
