"""Cutting: every record lies in exactly one shard, whatever the bytes, the shard size and the block size."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.boundaries import InputFormat, Scanner, Survey, split_records
from batch.shards import Layout, Plan, cut
from fyretoolkit.core.errors import PlatformError

FEW = st.text(alphabet='",\n\r5a', max_size=60).map(str.encode)
ANY = FEW | st.binary(max_size=60)
SIZES = st.integers(1, 40)
QUICK = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def csv_records_by_the_byte(content: bytes) -> list[tuple[int, bytes]]:
    """Oracle: (line, record) by a state machine that looks at one byte after another."""
    records, record, quoted, at_start, line, first = [], b"", False, True, 1, 1
    position = 0
    while position < len(content):
        byte = content[position : position + 1]
        position += 1
        line += byte == b"\n"
        if quoted:
            record += byte
            if byte == b'"':
                if content[position : position + 1] == b'"':
                    record += b'"'
                    position += 1
                else:
                    quoted = False
        elif byte == b"\n":
            records.append((first, record))
            record, first, at_start = b"", line, True
        else:
            quoted = byte == b'"' and at_start
            at_start = byte == b","
            record += byte
    records.append((first, record))
    stripped = [(first, record.removesuffix(b"\r")) for first, record in records]
    return [(first, record) for first, record in stripped if record]


def jsonl_records(content: bytes) -> list[tuple[int, bytes]]:
    """Oracle: the lines between LFs."""
    lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    return [(number, line) for number, line in enumerate(lines, start=1) if line]


def records_of(path: Path, plan: Plan) -> list[tuple[int, bytes]]:
    """What the plan's shards hold, read one by one."""
    content, found = path.read_bytes(), []
    for shard in plan.shards:
        chunk = content[shard.start : shard.end]
        assert shard.first_record == len(found)
        spans = split_records(chunk, plan.format)
        assert len(spans) == shard.records
        found += [(shard.first_line + span.line, chunk[span.start : span.end]) for span in spans]
    return found


@QUICK
@given(content=ANY, target=SIZES, cap=st.integers(1, 60), block=SIZES, threads=st.sampled_from([1, 1, 2, 3]))
@pytest.mark.parametrize(
    ("input_format", "oracle"),
    [(InputFormat.CSV, csv_records_by_the_byte), (InputFormat.JSONL, jsonl_records)],
)
def test_any_bytes_are_cut_into_the_same_records(
    tmp_path: Path,
    content: bytes,
    target: int,
    cap: int,
    block: int,
    threads: int,
    input_format: InputFormat,
    oracle,
):
    """Rows in = rows out, for any bytes, shard size, record cap and block size, and however many look at once."""
    path = tmp_path / "input"
    path.write_bytes(content)
    plan = cut(
        path,
        Layout(input_format, 0),
        target_bytes=target,
        max_record_bytes=cap,
        block_bytes=block,
        threads=threads,
    )
    assert records_of(path, plan) == oracle(content)
    assert plan.total == sum(shard.records for shard in plan.shards) == len(oracle(content))
    edges = [(shard.start, shard.end) for shard in plan.shards]
    assert all(before[1] <= after[0] for before, after in pairwise(edges))
    for shard in plan.shards:
        assert shard.is_oversized or shard.end - shard.start < target + max(cap, 1) + 60


@QUICK
@given(
    rows=st.lists(
        st.lists(st.text(alphabet='",\n\r a', max_size=8), min_size=2, max_size=3), min_size=1, max_size=12
    ),
    line_end=st.sampled_from(["\n", "\r\n"]),
    is_ended=st.booleans(),
    block=SIZES,
)
def test_legal_csv_is_cut_as_the_standard_library_reads_it(rows, line_end: str, is_ended: bool, block: int):
    """Python's csv module writes and reads the oracle."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    text = buffer.getvalue() if is_ended else buffer.getvalue().removesuffix(line_end)
    content = text.encode()
    scanner, ends = Scanner(InputFormat.CSV), 0
    for start in range(0, len(content), block):
        ends += int(scanner.feed(content[start : start + block]).ends_record.sum())
    assert ends + (not is_ended) == len(rows) == len(list(csv.reader(io.StringIO(text, newline=""))))
    assert len(split_records(content, InputFormat.CSV)) == len(rows)


def test_a_stray_quote_keeps_the_rows_behind_it(tmp_path: Path):
    """`5" pipe` opens nothing; neither does a quote in a quoted row's tail."""
    content = b'a,5" pipe\nb,"x\ny"\nc,"d"e"f\ng,h\n'
    assert csv_records_by_the_byte(content) == [
        (1, b'a,5" pipe'),
        (2, b'b,"x\ny"'),
        (4, b'c,"d"e"f'),
        (5, b"g,h"),
    ]
    path = tmp_path / "input.csv"
    path.write_bytes(content)
    plan = cut(path, Layout(InputFormat.CSV, 0), target_bytes=1, max_record_bytes=100)
    assert records_of(path, plan) == csv_records_by_the_byte(content)
    assert [shard.first_line for shard in plan.shards] == [1, 2, 4, 5]


def test_a_record_beyond_the_cap_is_a_shard_of_its_own(tmp_path: Path):
    """Its neighbours stay in shards that are read."""
    path = tmp_path / "input.jsonl"
    path.write_bytes(b"1\n2\n" + b"9" * 5000 + b"\n3\n" + b"8" * 5000)
    plan = cut(path, Layout(InputFormat.JSONL, 0), target_bytes=1000, max_record_bytes=100, block_bytes=64)
    assert [(shard.records, shard.first_line, shard.is_oversized) for shard in plan.shards] == [
        (2, 1, False),
        (1, 3, True),
        (1, 4, False),
        (1, 5, True),
    ]
    assert plan.total == 5


@pytest.mark.parametrize("end", [b"\n", b""])
def test_rows_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes):
    """As many as are allowed pass, the last without a line end too; one more is told, before all of it is read."""
    path = tmp_path / "input.jsonl"
    path.write_bytes(b"\n".join([b"1"] * 100) + end)

    def cut_at_most(most: int) -> Plan:
        layout = Layout(InputFormat.JSONL, 0)
        return cut(
            path, layout, target_bytes=10, max_record_bytes=100, max_records=most, block_bytes=16, threads=1
        )

    assert cut_at_most(100).total == 100
    for most in (99, 5):
        with pytest.raises(PlatformError, match=f"more than {most} rows") as caught:
            cut_at_most(most)
        assert caught.value.code == "input_too_large"
    blocks: list[Survey] = []
    follow = Scanner.follow
    monkeypatch.setattr(Scanner, "follow", lambda self, seen: blocks.append(seen) or follow(self, seen))
    with pytest.raises(PlatformError):
        cut_at_most(5)
    assert len(blocks) == 1


def test_a_plan_survives_its_file(tmp_path: Path):
    """A later run reads the same shards."""
    path = tmp_path / "input.csv"
    path.write_bytes("text,é\n1,2\n3,4\n".encode())
    layout = Layout(InputFormat.CSV, 8, "text,é".encode(), 2)
    plan = cut(path, layout, target_bytes=1, max_record_bytes=100)
    assert Plan.from_json(plan.to_json()) == plan
    assert [shard.first_line for shard in plan.shards] == [2, 3]


def test_an_input_that_shrinks_while_it_is_cut_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A short read is `input_changed`, never fewer rows."""
    path = tmp_path / "input.jsonl"
    path.write_bytes(b"1\n" * 100)
    follow = Scanner.follow

    def shrink(self: Scanner, seen: Survey):
        path.write_bytes(b"1\n")
        return follow(self, seen)

    monkeypatch.setattr(Scanner, "follow", shrink)
    with pytest.raises(PlatformError, match="input_changed"):
        cut(path, Layout(InputFormat.JSONL, 0), target_bytes=10, max_record_bytes=100, block_bytes=16)
