"""The bench itself: it must notice wrong bytes, and give no figure for what failed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import chart, measure
from tests.bench.__main__ import main
from tests.bench.bucket import Requests
from tests.bench.contenders import Contender, from_text
from tests.bench.content import MIB, Content
from tests.bench.measure import Figure, Floor, Meter, Row, Scale, Stage, Target
from tests.bench.processes import Peak, answered, cpu_seconds
from tests.bench.report import BEGIN, END, Report
from tests.bench.runner import Result, run_row
from tests.bench.scale import SIZES
from tests.bench.swarm import Expected, ask
from tests.bench.transfers import with_digest
from tests.bench.wire import Head, Unverified, Wire
from tests.support.engines import program
from tests.support.servers import Server

OURS = Contender("ours", ("true",), "info", "1")
PEER = Contender("peer", ("true",), "warn", "2")
MEMORY = Peak(50_000_000, 90_000_000)


def test_content_is_the_same_however_it_is_cut() -> None:
    content = Content(5 * MIB + 17, seed=1, period=MIB)
    whole = b"".join(content.pieces())
    assert len(whole) == content.size
    assert content.digest == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    for offset in (0, 1, MIB - 1, MIB + 4099, 5 * MIB):
        assert content.slice(offset, 100) == whole[offset : offset + 100]
    assert len(content.slice(content.size)) == 0


def test_no_two_contents_are_the_same() -> None:
    assert Content(1000).digest != Content(1000).digest


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that gives one connection this answer to its first request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                with contextlib.suppress(ConnectionError):
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(10)


def blob_answer(content: Content, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % content.size + body


@pytest.mark.parametrize("reader", ["read_content", "hash_content"])
@pytest.mark.parametrize("flipped", [None, 0, 70_000, 2 * MIB, 3 * MIB + 4])
def test_one_wrong_byte_is_noticed(reader: str, flipped: int | None) -> None:
    content = Content(3 * MIB + 5)
    body = bytearray(b"".join(content.pieces()))
    if flipped is not None:
        body[flipped] ^= 1
    with answering(blob_answer(content, bytes(body))) as port, Wire(port) as wire:
        wire.send_head("GET", "/")
        head = wire.read_head()
        with contextlib.nullcontext() if flipped is None else pytest.raises(Unverified):
            getattr(wire, reader)(head, content)


@pytest.mark.parametrize("reader", ["read_content", "hash_content"])
def test_a_body_that_ends_early_is_noticed(reader: str) -> None:
    content = Content(2 * MIB)
    body = b"".join(content.pieces())[:-1]
    with answering(blob_answer(content, body)) as port, Wire(port) as wire:
        wire.send_head("GET", "/")
        head = wire.read_head()
        with pytest.raises(Unverified):
            getattr(wire, reader)(head, content)


@pytest.mark.parametrize(
    ("status", "digest", "body"),
    [
        (b"404 Not Found", b"sha256:aa", b"{}"),
        (b"200 OK", b"sha256:bb", b"{}"),
        (b"200 OK", b"sha256:aa", b"[]"),
    ],
)
def test_a_wrong_small_answer_is_noticed(status: bytes, digest: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 %b\r\nContent-Length: 2\r\nDocker-Content-Digest: %b\r\n\r\n"
    expected = Expected(2, "sha256:aa", b"{}")
    with answering(head % (status, digest) + body) as port, pytest.raises(Unverified):
        ask(port, b"GET / HTTP/1.1\r\n\r\n", expected, count=1, connections=1)


def test_a_right_small_answer_is_timed() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nDocker-Content-Digest: sha256:aa\r\n\r\n{}"
    with answering(answer) as port:
        taken = ask(
            port,
            b"GET / HTTP/1.1\r\n\r\n",
            Expected(2, "sha256:aa", b"{}"),
            count=1,
            connections=1,
        )
    assert len(taken) == 1


def test_location_may_be_absolute_or_relative() -> None:
    for place in ("http://127.0.0.1:5000/v2/a/blobs/uploads/1?s=2", "/v2/a/blobs/uploads/1?s=2"):
        head = Head.parse(f"HTTP/1.1 202 Accepted\r\nLocation: {place}".encode())
        assert head.location == "/v2/a/blobs/uploads/1?s=2"
        assert with_digest(head.location, "sha256:a").endswith("?s=2&digest=sha256:a")


def test_who_has_the_other_end_of_a_connection_is_found() -> None:
    """A child that holds a listener's socket takes none of its connections by that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[number])
        try:
            with socket.create_connection(listener.getsockname()) as connection:
                assert not answered(child.pid, connection), "nobody has accepted it"
                accepted, _ = listener.accept()
                with accepted:
                    assert answered(os.getpid(), connection) == {os.getpid()}
                    assert not answered(child.pid, connection)
        finally:
            child.communicate()


def test_pieces_of_a_sample_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([1.0, 1.5, 4.0, 4.25])
    monkeypatch.setattr(measure, "cpu_seconds", lambda _: next(used))
    peaks = iter([Peak(3, 5), Peak(2, 6)])
    monkeypatch.setattr(measure, "peak", lambda _: next(peaks))
    process = subprocess.Popen(["true"])
    server = Server(process, 0, Path("log"), Path("root"))
    meter = Meter()
    for _ in range(2):
        with meter.measure(server, 2):
            process.wait()
    assert meter.sample is not None
    assert (meter.sample.cpu, meter.sample.amount) == (0.75, 4)
    assert meter.sample.memory == Peak(3, 6)


def test_cpu_time_counts_children_that_live_and_that_ended() -> None:
    burn = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
    parent = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1] + 'print(flush=True)\\ninput()'],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(flush=True)\n"
        "input()\n"
        "child.communicate(b'\\n')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = cpu_seconds(process.pid)
        process.communicate(b"\n", timeout=20)
    assert used >= 0.38  # what ended is known in ticks of 10 ms


def measured(cpu: dict[str, float], failing: str = "") -> Row[str]:
    """A row whose samples are given, by contender, and whose proof fails for one of them."""

    @contextlib.contextmanager
    def setup(stage: Stage) -> Iterator[str]:
        yield stage.contender.name

    def run(name: str, meter: Meter) -> None:
        meter.record(cpu[name], 1.0, 2.0, MEMORY)

    def verify(name: str) -> None:
        if name == failing:
            raise Unverified("The bytes are wrong.")

    return Row("row", "a row", Figure.CPU, "GB", setup, run, verify, Target(ratio=0.5))


def results(row: Row[str], directory: Path, rounds: int = 3) -> Result:
    return run_row(row, OURS, PEER, scale=Scale(), rounds=rounds, seconds=60, directory=directory)


def test_a_row_has_medians_and_a_ratio(tmp_path: Path) -> None:
    result = results(measured({"ours": 1.0, "peer": 4.0}), tmp_path)
    assert len(result.pairs) == 3
    ours, peer = result.values(Figure.CPU)
    ratio = result.ratio(Figure.CPU)
    assert ratio is not None
    assert (ours.median, peer.median, ratio.median) == (0.5, 2.0, 0.25)
    assert result.met() is True


def test_nothing_is_compared_with_nothing(tmp_path: Path) -> None:
    """As the requests to a store, of a registry that remembers all it is asked for."""
    result = results(measured({"ours": 1.0, "peer": 0.0}), tmp_path)
    assert result.ratio(Figure.CPU) is None
    assert result.met() is False
    report = Report(OURS, PEER, Scale(), False, [result])
    assert "ratio 0.5: MISSED" in report.text()
    report.write_json(tmp_path / "json")
    (row,) = json.loads((tmp_path / "json").read_text())["rows"]
    assert row["CPU"]["ratio"] is None
    chart.bars([result], "caption", "peer")


def test_a_missed_target_is_said(tmp_path: Path) -> None:
    result = results(measured({"ours": 3.0, "peer": 4.0}), tmp_path)
    assert result.met() is False
    assert "ratio 0.5: MISSED" in Report(OURS, PEER, Scale(), False, [result]).text()


@pytest.mark.parametrize("failing", ["ours", "peer"])
def test_a_row_that_failed_on_either_side_has_no_figure(tmp_path: Path, failing: str) -> None:
    result = results(measured({"ours": 1.0, "peer": 4.0}, failing), tmp_path)
    assert result.pairs == ()
    assert result.failure == f"{failing}: The bytes are wrong."
    report = Report(OURS, PEER, Scale(), False, [result])
    assert "FAILED" in report.text()
    assert "0.25" not in report.markdown()


def test_a_server_that_does_not_start_fails_the_row(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def setup(stage: Stage) -> Iterator[str]:
        with stage.contender.start(stage.directory):
            yield "never"

    row = Row("row", "a row", Figure.CPU, "GB", setup, lambda _, __: None, lambda _: None)
    result = results(row, tmp_path)
    assert result.failure is not None
    assert result.failure.startswith("ours: the server ended at its start")


def test_whatever_goes_wrong_is_the_rows_failure(tmp_path: Path) -> None:
    def run(_name: str, _meter: Meter) -> None:
        raise KeyError("tags")

    @contextlib.contextmanager
    def will_not_end(_stage: Stage) -> Iterator[str]:
        yield "it"
        raise RuntimeError("the server does not stop")

    row = measured({"ours": 1.0, "peer": 4.0})
    assert results(replace(row, run=run), tmp_path).failure == "ours: KeyError: 'tags'"
    result = results(replace(row, setup=will_not_end, run=_takes_a_second), tmp_path)
    assert result.failure == "when the row was taken down: RuntimeError: the server does not stop"


def _takes_a_second(_state: str, meter: Meter) -> None:
    meter.record(1.0, 1.0, 1.0, MEMORY)


def floored(failing: bool = False) -> Row[str]:
    def run(_state: str, meter: Meter) -> None:
        if failing:
            raise Unverified("There is no nginx.")
        meter.record(0.5, 1.0, 2.0, MEMORY)

    row = measured({"ours": 1.0, "peer": 4.0})
    floor = Floor("nginx", row.setup, run, lambda _: None)
    return replace(row, floor=floor, target=Target(ratio=0.5, floor=1.9))


def test_a_floor_is_shown_and_may_be_promised(tmp_path: Path) -> None:
    result = results(floored(), tmp_path)
    assert (result.above_floor(Figure.CPU), len(result.floors)) == (2.0, 3)
    assert result.met() is False
    (line,) = Report(OURS, PEER, Scale(), False, [result]).lines()
    assert "nginx 0.250" in line
    assert line[-1] == "ratio 0.5, 1.9 of the floor (2.00): MISSED"


def test_a_floor_that_fails_leaves_the_comparison(tmp_path: Path) -> None:
    result = results(floored(failing=True), tmp_path)
    assert (result.failure, len(result.pairs), result.floors) == (None, 3, ())
    assert result.met() is False
    (line,) = Report(OURS, PEER, Scale(), False, [result]).lines()
    assert "FAILED: nginx: There is no nginx." in line
    assert "(unknown): MISSED" in line[-1]


def test_charts_are_whole_and_leave_out_what_failed(tmp_path: Path) -> None:
    rows = [replace(floored(), title="a <row>")]
    rows += [replace(measured({"ours": 1.0, "peer": 4.0}), name=f"scale-{size}") for size in SIZES]
    rows.append(replace(measured({"ours": 1.0, "peer": 4.0}, "peer"), title="broken"))
    ran = [results(row, tmp_path / row.name) for row in rows]
    chart.write(tmp_path, ran, "1 & 2", "peer")
    for name, shown in (("benchmarks.svg", "0.25"), ("scale.svg", "Holdfast, files")):
        picture = (tmp_path / name).read_text()
        texts = [element.text for element in ElementTree.fromstring(picture).iter()]
        assert "1 & 2" in texts
        assert shown in texts
        assert "broken" not in picture


def test_chunked_bodies_are_put_together() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n"
    )
    with answering(answer) as port, Wire(port) as wire:
        assert wire.ask("GET", "/")[1] == b"abc0123456789"


@pytest.mark.engine("docker-registry")
def test_a_quick_run_has_all_kinds_of_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program("docker-registry")
    program("nginx")
    rows = (
        "pull,push-chunks,manifest-tag,push-existing,crowd,auth-manifest,token-issue,idle,tags-list,"
        "tags-list-new,scale-1"
    )
    words = ["--quick", "--rounds", "1", "--rows", rows, "--charts", str(tmp_path)]
    written = tmp_path / "results.json"
    code = main([*words, "--json", str(written), "--directory", str(tmp_path)])
    assert code == 0, capsys.readouterr().out
    document = json.loads(written.read_text())
    assert [row["name"] for row in document["rows"]] == rows.split(",")
    assert not [row for row in document["rows"] if row.get("floor", {}).get("failure")]
    assert ElementTree.parse(tmp_path / "benchmarks.svg").getroot() is not None


def test_rows_for_which_no_time_is_left_say_so(tmp_path: Path) -> None:
    written = tmp_path / "results.json"
    words = ["--rows", "pull,idle", "--peer", "another=false {config}", "--json", str(written)]
    assert main([*words, "--minutes", "0", "--directory", str(tmp_path)]) == 1
    rows = json.loads(written.read_text())["rows"]
    assert [row["name"] for row in rows] == ["pull", "idle"]
    for row in rows:
        assert row["failure"].startswith("not begun: the 0 minutes of the run were over.")


def test_markdown_replaces_what_is_between_its_marks(tmp_path: Path) -> None:
    result = results(measured({"ours": 1.0, "peer": 4.0}), tmp_path)
    report = Report(OURS, PEER, Scale(), False, [result])
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    report.write_markdown(page)
    report.write_markdown(page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("| a row |") == 1


def test_a_peer_is_named_with_its_command() -> None:
    program = sys.executable
    assert from_text(f"x='{program}' serve").command == (program, "serve", "{config}")
    assert from_text(f"x={program} {{config}} --flag").command[1:] == ("{config}", "--flag")
    for wrong in ("x", "=true", "x=", f"x={os.devnull}/none"):
        with pytest.raises(ValueError, match="peer"):
            from_text(wrong)


def test_a_row_may_be_judged_by_more_than_one_figure(tmp_path: Path) -> None:
    def run(name: str, meter: Meter) -> None:
        meter.note(requests={"ours": 30, "peer": 60}[name])
        meter.record(1.0, {"ours": 1.0, "peer": 4.0}[name], 2.0, MEMORY)

    row = replace(
        measured({}),
        figure=Figure.WALL,
        run=run,
        further=((Figure.CPU, None), (Figure.REQUESTS, Target(ratio=1 / 3))),
    )
    result = results(row, tmp_path)
    assert result.values(Figure.REQUESTS)[0].median == 15
    assert result.met() is False  # the wall time is right, the requests are not
    lines = Report(OURS, PEER, Scale(), False, [result]).lines()
    assert [line[-1] for line in lines] == ["ratio 0.5: met", "", "ratio 0.333: MISSED"]
    assert [line[0] for line in lines] == ["a row", "", ""]


def test_requests_are_counted_from_whole_lines_of_the_gateways_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    before = b'x 1 beast: 0x7f: 127.0.0.1 - me [now] "%s HTTP/1.1" 200 5 - "%s" - latency=0s\n'
    log.write_bytes(before % (b"GET /mine/old", b"Boto3"))
    requests = Requests(log, "mine")
    with log.open("ab") as file:
        file.write(before % (b"PUT /mine/key", b"Boto3/1"))
        file.write(before % (b"GET /mine?list-type=2", b"aws-sdk-go"))
        file.write(before % (b"GET /mine/blob", b"holdfast-bench"))
        file.write(before % (b"GET /other/key", b"Boto3/1"))
        file.write((before % (b"POST /mine?delete", b"Boto3/1"))[:-1])
    assert requests.count() == 2
    with log.open("ab") as file:
        file.write(b"\n")
    assert requests.count() == 1
    assert requests.count() == 0
