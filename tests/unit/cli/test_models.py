"""`fyre models` and `fyre files`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from fyretoolkit.cli.sources import opened_model, opened_source
from tests.support.api_bench import DEMO_MODELS
from tests.support.fyre_command import Fyre

REFUSED, MISUSED = 1, 2
DIGITS = DEMO_MODELS / "digits"


def test_a_model_is_pushed_published_and_archived(fyre: Fyre) -> None:
    """A local file is uploaded by itself; without content a model waits for it."""
    pushed = fyre.json("models", "push", str(DIGITS / "model.onnx"), "--id", "mine")
    assert (pushed["id"], pushed["source_uri"][:13]) == ("mine", "fyre://files/")
    assert fyre.json("models", "push", "--id", "later", "--description", "soon")["status"] == "training"
    published = fyre.json("models", "publish", "later", str(DIGITS))
    assert published["source_uri"].startswith("fyre://files/")
    assert fyre.done("models", "archive", "mine") == "mine is archived.\n"
    assert [model["id"] for model in fyre.json("models", "list", "--status", "archived")["data"]] == ["mine"]
    names = {file["filename"] for file in fyre.json("files", "list")["data"]}
    assert names == {"model.onnx", "digits.zip"}


def test_a_model_shows_what_it_takes(fyre: Fyre) -> None:
    """As the graph declares it; the batch is open."""
    fyre.act(fyre.bench.deploy, "digits")
    shown = dict(line.split("\t", 1) for line in fyre.done("models", "get", "digits").splitlines())
    assert shown["status"] == "ready"
    assert shown["takes"].endswith("(*, 64)")
    assert shown["deployments"].startswith("dep_")
    header, row = fyre.done("models", "list").splitlines()
    assert row.split("\t")[header.split("\t").index("deployments")] == "1"


def test_a_conflict_is_refused(fyre: Fyre) -> None:
    fyre.json("models", "push", "--id", "mine")
    result = fyre.run("models", "push", "--id", "mine")
    assert result.exit_code == REFUSED
    assert result.stderr.startswith("model_conflict: ")


def test_a_source_is_needed(fyre: Fyre) -> None:
    """And one that is there."""
    assert fyre.run("models", "push").exit_code == MISUSED
    result = fyre.run("models", "push", "nowhere.onnx")
    assert (result.exit_code, result.stderr) == (
        MISUSED,
        "Cannot use nowhere.onnx: There is no such file, folder or URL.\n",
    )


def test_a_folder_becomes_the_same_archive_each_time(tmp_path: Path) -> None:
    """So that the same package has the same digest; what begins with a dot stays at home."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "model.yaml").write_text("id: mine\n", "utf-8")
    (package / ".secret").write_text("x", "utf-8")
    archives = []
    for _ in range(2):
        with opened_source(str(package)) as found:
            assert Path(found).name == "mine.zip"
            assert zipfile.ZipFile(found).namelist() == ["model.yaml"]
            archives.append(Path(found).read_bytes())
    assert archives[0] == archives[1]
    assert not Path(found).exists()


@pytest.mark.parametrize(
    ("named", "source"),
    [
        ("digits", "models://digits"),
        ("https://a.example/m.onnx", "https://a.example/m.onnx"),
        ("models://x", "models://x"),
    ],
)
def test_a_plain_name_is_a_registered_model(named: str, source: str) -> None:
    with opened_model(named) as found:
        assert found == source


def test_a_missing_file_is_no_registered_model() -> None:
    with pytest.raises(FileNotFoundError), opened_model("nowhere.onnx"):
        pass


def test_files_go_up_and_come_back(fyre: Fyre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URI alone is on stdout; a download replaces nothing unless it is told where to."""
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("text\ngood\n", "utf-8")
    uri = fyre.done("files", "upload", "rows.csv").strip()
    file_id = uri.removeprefix("fyre://files/")
    assert fyre.json("files", "get", file_id)["size_bytes"] == 10
    assert "rows.csv" in fyre.done("files", "list")
    assert fyre.run("files", "download", file_id).exit_code == MISUSED
    fyre.done("files", "download", file_id, "--output", "copy.csv")
    assert Path("copy.csv").read_text("utf-8") == "text\ngood\n"
    assert fyre.done("files", "delete", file_id) == f"{file_id} is deleted.\n"
    assert fyre.run("files", "get", file_id).stderr.startswith("file_not_found: ")
