"""File URLs: what is beneath the root is read, and nothing leads out of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress import local
from fyretoolkit.egress.fetch import Fetched, Timeouts, fetch
from fyretoolkit.egress.local import LocalSource, local_folder, open_local
from fyretoolkit.egress.urls import Policy, parse_url

SHA256_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example B.1


def copy(url: str, destination: Path, policy: Policy, max_bytes: int = 1 << 20) -> Fetched:
    return asyncio.run(
        fetch(
            url,
            destination,
            policy=policy,
            max_bytes=max_bytes,
            timeouts=Timeouts(10, 10, 60),
            not_found_code="input_not_found",
            unreachable_code="input_unreachable",
            too_large_code="input_too_large",
        )
    )


def code_of(url: str, policy: Policy) -> str:
    with pytest.raises(PlatformError) as caught:
        open_local(url, policy)
    return caught.value.code


def test_a_file_is_pinned_where_it_is(root: Path, development: Policy) -> None:
    """`open_local` copies nothing: it answers the real path and what identifies the content."""
    (root / "folder").mkdir()
    file = root / "folder" / "a b.csv"
    file.write_bytes(b"abc")
    (root / "link.csv").symlink_to("folder/a b.csv")
    status = file.stat()
    expected = LocalSource(file.resolve(), 3, status.st_mtime_ns, status.st_ino)
    assert open_local(f"file://{root}/folder/a%20b.csv", development) == expected
    assert open_local(f"file://{root}/link.csv", development) == expected


def test_a_pin_tells_that_the_file_was_replaced(root: Path, development: Policy) -> None:
    """Another file under the same name has another pin, even with the same size."""
    (root / "a.csv").write_bytes(b"abc")
    before = open_local(f"file://{root}/a.csv", development)
    (root / "b.csv").write_bytes(b"xyz")
    (root / "b.csv").replace(root / "a.csv")
    assert open_local(f"file://{root}/a.csv", development) != before


def test_a_file_is_copied_whole(root: Path, tmp_path: Path, development: Policy) -> None:
    """`fetch` of a file gives the same kind of result as of a download."""
    (root / "a.csv").write_bytes(b"abc")
    fetched = copy(f"file://{root}/a.csv", tmp_path / "copy", development)
    assert fetched == Fetched(tmp_path / "copy", 3, SHA256_ABC, None, None, f"file://{root}/a.csv", "a.csv")
    assert (tmp_path / "copy").read_bytes() == b"abc"


def test_a_file_above_the_limit_is_not_copied(root: Path, tmp_path: Path, development: Policy) -> None:
    """The limit holds for files too, and leaves nothing behind."""
    (root / "a.csv").write_bytes(b"abc")
    with pytest.raises(PlatformError) as caught:
        copy(f"file://{root}/a.csv", tmp_path / "copy", development, max_bytes=2)
    assert caught.value.code == "input_too_large"
    assert sorted(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize(
    "target", ["{outside}/secret", "../outside/secret", "{outside}/missing", "/proc/self/environ"]
)
def test_a_link_out_of_the_root_is_refused(
    target: str, root: Path, tmp_path: Path, development: Policy
) -> None:
    """Absolute or relative, to something that exists or not: the answer is the same."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "link").symlink_to(target.format(outside=outside))
    assert code_of(f"file://{root}/link", development) == "url_not_allowed"


def test_a_linked_folder_out_of_the_root_is_refused(root: Path, tmp_path: Path, development: Policy) -> None:
    """A link in the middle of the path is no better than one at its end."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (root / "folder").symlink_to(tmp_path / "outside")
    assert code_of(f"file://{root}/folder/secret", development) == "url_not_allowed"


def test_a_link_into_the_platforms_home_is_refused(root: Path, development: Policy) -> None:
    """The home lies beneath the root here, and stays closed to links as to paths."""
    (root / "home").mkdir()
    (root / "home" / "appendonly.aof").write_text("secret")
    (root / "link").symlink_to("home/appendonly.aof")
    assert code_of(f"file://{root}/link", development) == "url_not_allowed"


@pytest.mark.parametrize("swapped", ["folder", "folder/a.csv"])
def test_a_link_put_in_after_the_check_leads_nowhere(
    swapped: str, root: Path, tmp_path: Path, development: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race between resolving and opening: the walk refuses the link although the resolved path was good."""
    outside = tmp_path / "outside"
    for folder in (outside, root / "folder"):
        folder.mkdir()
        (folder / "a.csv").write_text(folder.name)
    realpath = os.path.realpath

    def swap_after(path: str) -> str:
        real = realpath(path)
        if Path(path).name == "a.csv" and not (root / "aside").exists():
            (root / swapped).rename(root / "aside")
            (root / swapped).symlink_to(outside / swapped.removeprefix("folder").lstrip("/"))
        return real

    monkeypatch.setattr(local.os.path, "realpath", swap_after)
    assert code_of(f"file://{root}/folder/a.csv", development) in ("url_not_allowed", "input_not_found")
    assert (root / "aside").exists()


def test_what_is_not_a_regular_file_is_refused(root: Path, development: Policy) -> None:
    """A folder, a FIFO (without waiting for its writer), a device, a link loop."""
    (root / "folder").mkdir()
    os.mkfifo(root / "fifo")
    (root / "loop").symlink_to("loop")
    (root / "device").symlink_to("/dev/zero")
    for name in ("", "folder", "folder/", "fifo", "loop", "device"):
        assert code_of(f"file://{root}/{name}", development) == "url_not_allowed"
    everything = Policy(frozenset({"file"}), frozenset(), 0, file_roots=(Path("/"),))
    for path in ("/", "/dev/zero"):
        assert code_of(f"file://{path}", everything) == "url_not_allowed"


def test_a_missing_file_is_the_callers_not_found(root: Path, development: Policy) -> None:
    """Missing, beneath a missing folder, beneath a file, or with an impossible name."""
    (root / "a.csv").write_text("")
    for name in ("missing", "missing/a", "a.csv/b", "x" * 300):
        assert code_of(f"file://{root}/{name}", development) == "input_not_found"
    with pytest.raises(PlatformError) as caught:
        open_local(f"file://{root}/missing", development, not_found_code="artifact_not_found")
    assert caught.value.code == "artifact_not_found"


def test_only_file_urls_are_opened(development: Policy) -> None:
    """`open_local` never touches the network."""
    assert code_of("http://localhost/a.csv", development) == "url_not_allowed"


def test_roots_that_are_links_themselves_work(root: Path, tmp_path: Path) -> None:
    """A configured root may be a link (`/tmp` on macOS); it is resolved before paths are compared."""
    (root / "a.csv").write_text("abc")
    (tmp_path / "alias").symlink_to(root)
    policy = Policy(frozenset({"file"}), frozenset(), 0, file_roots=(tmp_path / "alias",))
    assert open_local(f"file://{tmp_path}/alias/a.csv", policy).path == (root / "a.csv").resolve()
    assert code_of(f"file://{root}/a.csv", policy) == "url_not_allowed"


def folder_of(path: Path, policy: Policy) -> Path | None:
    return local_folder(parse_url(f"file://{path}"), policy)


def test_a_folder_is_found_beneath_a_root_that_is_a_link(root: Path, tmp_path: Path) -> None:
    """Every folder beneath such a root was refused: its real path was compared with the root as configured."""
    (root / "package").mkdir()
    (tmp_path / "alias").symlink_to(root)
    policy = Policy(frozenset({"file"}), frozenset(), 0, file_roots=(tmp_path / "alias",))
    assert folder_of(tmp_path / "alias" / "package", policy) == (root / "package").resolve()


def test_a_hidden_folder_stays_hidden_though_its_root_is_named_by_a_link(root: Path) -> None:
    """A home that is a link left its real path open, since that is not beneath the link."""
    (root / "real" / "artifacts").mkdir(parents=True)
    (root / "home").symlink_to(root / "real")
    policy = Policy(frozenset({"file"}), frozenset(), 0, file_roots=(root,), hidden_roots=(root / "home",))
    for path in ("home", "real", "home/artifacts", "real/artifacts"):
        with pytest.raises(PlatformError) as caught:
            folder_of(root / path, policy)
        assert caught.value.code == "url_not_allowed"
        assert "real" not in caught.value.message


def test_what_is_no_folder_is_none(root: Path, development: Policy) -> None:
    (root / "a.csv").write_text("abc")
    assert folder_of(root / "a.csv", development) is None
    assert folder_of(root / "missing", development) is None
    assert local_folder(parse_url("https://a.example/folder"), development) is None


def test_a_folder_out_of_the_root_is_refused_whether_it_is_there_or_not(
    root: Path, tmp_path: Path, development: Policy
) -> None:
    (tmp_path / "outside").mkdir()
    for name in ("outside", "missing"):
        (root / f"to-{name}").symlink_to(tmp_path / name)
        for path in (root / f"to-{name}", tmp_path / name):
            with pytest.raises(PlatformError) as caught:
                folder_of(path, development)
            assert caught.value.code == "url_not_allowed"


def test_a_link_in_a_folder_does_not_lead_out_of_the_root(
    root: Path, tmp_path: Path, development: Policy
) -> None:
    """The files of a package folder are read where they lie, so each link among them is followed."""
    (root / "package").mkdir()
    (root / "model.onnx").write_text("model")
    (root / "package" / "model.onnx").symlink_to("../model.onnx")
    assert folder_of(root / "package", development) == (root / "package").resolve()
    (tmp_path / "secret").write_text("secret")
    (root / "package" / "model.yaml").symlink_to(tmp_path / "secret")
    with pytest.raises(PlatformError) as caught:
        folder_of(root / "package", development)
    assert caught.value.code == "url_not_allowed"
