"""Passwords: files of accounts, and what checking one costs and tells."""

from __future__ import annotations

import asyncio
import logging
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from auth import accounts as module
from auth.accounts import Account, Combined, Passwords, acceptable, usable
from auth.htpasswd import HtpasswdFile, parse
from auth.model import Undecided
from auth.users import UsersFile
from auth.watched import Unusable
from tests.auth.accountfiles import Clock, hashed, htpasswd


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def passwords(clock: Clock) -> Iterator[Passwords]:
    made = Passwords(clock=clock)
    yield made
    made.close()


class Counting:
    """How often bcrypt was really asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._lock = threading.Lock()
        real = bcrypt.checkpw

        def counted(password: bytes, stored: bytes) -> bool:
            with self._lock:
                self.calls += 1
            return real(password, stored)

        monkeypatch.setattr(bcrypt, "checkpw", counted)


@pytest.fixture
def bcrypts(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


def test_the_file_of_distribution(tmp_path: Path, passwords: Passwords) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(
        f"# people\n\n  alice:{hashed('secret')}  \nbob:{hashed('other').replace('$2b', '$2y')}\n"
        f"carol:{hashed('third').replace('$2b', '$2a')}\r\nold:$apr1$abc$def\n"
    )

    async def check() -> None:
        file = HtpasswdFile(str(path), passwords)
        assert await file.check("alice", "secret") is not None
        assert await file.check("bob", "other") is not None
        assert await file.check("carol", "third") is not None
        assert await file.check("alice", "other") is None
        assert await file.check("nobody", "secret") is None
        assert await file.check("old", "def") is None
        assert await file.check("# people", "") is None
        assert await file.find("old") is None

    asyncio.run(check())


def test_a_line_that_is_not_bcrypt_is_told_of(
    tmp_path: Path, passwords: Passwords, caplog: pytest.LogCaptureFixture
) -> None:
    path = htpasswd(tmp_path / "htpasswd", "alice")
    path.write_text(path.read_text() + "bob:{SHA}abc\ncarol:$2y$31$" + "." * 53 + "\n")
    HtpasswdFile(str(path), passwords)
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * 2
    assert "line 2" in caplog.text
    assert "line 3" in caplog.text
    assert "SHA" not in caplog.text


@pytest.mark.parametrize("text", ["alice", ":hash", "alice:", "a:b\nnonsense\n"])
def test_what_is_no_htpasswd_file_is_refused(
    tmp_path: Path, passwords: Passwords, text: str
) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(text)
    with pytest.raises(Unusable, match="is not `name:hash`"):
        HtpasswdFile(str(path), passwords)


def test_a_changed_password_counts_at_once(
    tmp_path: Path, passwords: Passwords, clock: Clock
) -> None:
    path = htpasswd(tmp_path / "htpasswd", alice="old")

    async def check() -> None:
        file = HtpasswdFile(str(path), passwords, clock=clock)
        before = await file.check("alice", "old")
        assert before is not None
        htpasswd(path, alice="new")
        clock.pass_(1)
        assert await file.remembered("alice", "old") is None
        assert await file.check("alice", "old") is None
        after = await file.check("alice", "new")
        assert after is not None
        assert after.stamp != before.stamp

    asyncio.run(check())


def test_a_broken_file_locks_nobody_out(tmp_path: Path, passwords: Passwords, clock: Clock) -> None:
    path = htpasswd(tmp_path / "htpasswd", "alice")

    async def check() -> None:
        file = HtpasswdFile(str(path), passwords, clock=clock)
        path.write_text("half a line")
        clock.pass_(1)
        assert await file.check("alice", "alice's") is not None
        assert "line 1" in (file.problem or "")

    asyncio.run(check())


def test_a_missing_file_is_created_with_one_user(
    tmp_path: Path, passwords: Passwords, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "new" / "htpasswd"
    told: list[tuple[str, str, str]] = []

    async def check() -> None:
        file = HtpasswdFile(str(path), passwords, announce=lambda *all_: told.append(all_))
        ((where, name, password),) = told
        assert (where, name) == (str(path), "docker")
        assert len(password) > 40
        assert await file.check("docker", password) == await file.find("docker")
        HtpasswdFile(str(path), passwords, announce=lambda *all_: told.append(all_))

    asyncio.run(check())
    assert len(told) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert caplog.text == ""


def test_the_first_password_is_written_to_the_log(
    tmp_path: Path, passwords: Passwords, caplog: pytest.LogCaptureFixture
) -> None:
    file = HtpasswdFile(str(tmp_path / "htpasswd"), passwords)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    words = record.getMessage().split()
    password = words[words.index("with", words.index("logs")) + 1]
    assert asyncio.run(file.check("docker", password)) is not None


def test_a_file_that_cannot_be_created_is_an_error(tmp_path: Path, passwords: Passwords) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match="cannot be read"):
        HtpasswdFile(str(tmp_path / "file" / "htpasswd"), passwords)


def test_a_success_is_remembered_for_a_minute(
    tmp_path: Path, passwords: Passwords, clock: Clock, bcrypts: Counting
) -> None:
    path = htpasswd(tmp_path / "htpasswd", "alice", "bob")

    async def check() -> None:
        file = HtpasswdFile(str(path), passwords, clock=clock)
        assert await file.remembered("alice", "alice's") is None
        for _ in range(5):
            assert await file.check("alice", "alice's") is not None
        assert bcrypts.calls == 1
        assert await file.remembered("alice", "alice's") == Account(
            "alice", stamp=(await file.find("alice") or Account("")).stamp
        )
        assert await file.remembered("bob", "alice's") is None
        assert await file.remembered("alice", "alice'") is None
        clock.pass_(61)
        assert await file.remembered("alice", "alice's") is None
        assert await file.check("alice", "alice's") is not None
        assert bcrypts.calls == 2

    asyncio.run(check())


def test_a_failure_is_not_remembered(
    tmp_path: Path, passwords: Passwords, bcrypts: Counting
) -> None:
    path = htpasswd(tmp_path / "htpasswd", "alice")

    async def check() -> None:
        file = HtpasswdFile(str(path), passwords)
        for _ in range(3):
            assert await file.check("alice", "wrong") is None
        assert bcrypts.calls == 3

    asyncio.run(check())


def test_the_same_at_once_is_checked_once(
    tmp_path: Path, passwords: Passwords, bcrypts: Counting
) -> None:
    path = htpasswd(tmp_path / "htpasswd", "alice")

    async def check() -> None:
        file = HtpasswdFile(str(path), passwords)
        found = await asyncio.gather(*(file.check("alice", "alice's") for _ in range(20)))
        assert all(found)
        assert bcrypts.calls == 1

    asyncio.run(check())


def test_too_many_at_once_are_put_off(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(module, "_matches", lambda password, stored: go.wait(20))
    stored = hashed("x").encode()

    async def check() -> None:
        waiting = [
            asyncio.ensure_future(passwords.check("alice", str(number), stored))
            for number in range(64)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Undecided):
            await passwords.check("alice", "one more", stored)
        go.set()
        assert all(await asyncio.gather(*waiting))

    asyncio.run(check())


def test_one_who_leaves_does_not_stop_the_check_of_others(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(module, "_matches", lambda password, stored: go.wait(20))
    stored = hashed("x").encode()

    async def check() -> None:
        leaves, stays = (
            asyncio.ensure_future(passwords.check("alice", "same", stored)) for _ in range(2)
        )
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.sleep(0)
        go.set()
        assert await stays
        with pytest.raises(asyncio.CancelledError):
            await leaves

    asyncio.run(check())


def test_an_unknown_name_costs_a_check_like_those_in_the_file(
    tmp_path: Path, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: dict[str, set[int]] = {}
    name = ""
    real = bcrypt.checkpw

    def spied(password: bytes, stored: bytes) -> bool:
        costs.setdefault(name, set()).add(module.cost(stored))
        return real(password, stored)

    monkeypatch.setattr(bcrypt, "checkpw", spied)
    path = tmp_path / "htpasswd"
    path.write_text(f"alice:{hashed('a', 4)}\nbob:{hashed('b', 5)}\n")

    async def check() -> None:
        nonlocal name
        file = HtpasswdFile(str(path), passwords)
        for number in range(20):
            name = f"nobody-{number}"
            for _ in range(2):
                assert await file.check(name, "wrong") is None

    asyncio.run(check())
    assert all(len(seen) == 1 for seen in costs.values())  # a name always costs the same
    assert set().union(*costs.values()) == {4, 5}


def test_the_work_does_not_tell_which_names_exist(
    tmp_path: Path, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, since a clock tells too much about the machine: one check for each name, in a thread."""
    checked: list[tuple[int, str]] = []
    real = bcrypt.checkpw

    def spied(password: bytes, stored: bytes) -> bool:
        checked.append((module.cost(stored), threading.current_thread().name.rpartition("_")[0]))
        return real(password, stored)

    monkeypatch.setattr(bcrypt, "checkpw", spied)
    first, second = tmp_path / "htpasswd", tmp_path / "users.yml"
    first.write_text(f"alice:{hashed('a', 4)}\nmd5:$apr1$salt$hash\n")
    second.write_text(
        f"users:\n  bob: {{password: {hashed('b', 5)}}}\n"
        f"  carol: {{password: {hashed('c', 5)}, disabled: true}}\n"
    )

    async def costs_of(name: str) -> set[int]:
        both = Combined([HtpasswdFile(str(first), passwords), UsersFile(str(second), passwords)])
        for number in range(3):
            checked.clear()
            assert await both.check(name, f"wrong {number}") is None
            ((cost, thread),) = checked
            assert thread == "passwords"
        return {cost}

    async def check() -> None:
        assert await costs_of("alice") == {4}
        assert await costs_of("bob") == {5}
        unknown = ["md5", "carol", "", "é", "x" * 256, *(f"nobody-{n}" for n in range(30))]
        found: set[int] = set()
        for name in unknown:
            found |= await costs_of(name)
        assert found == {4, 5}, "each of the costs in the files could be anybody's"

    asyncio.run(check())


def test_what_bcrypt_does_not_see_is_no_password(
    tmp_path: Path, passwords: Passwords, bcrypts: Counting
) -> None:
    longest = "p" * 72
    path = htpasswd(tmp_path / "htpasswd", alice=longest, bob="short")

    async def check() -> None:
        file = HtpasswdFile(str(path), passwords)
        assert await file.check("alice", longest) is not None
        for refused in (longest + "x", longest + "\0", "é" * 37, "p" * 1024 * 1024):
            assert await file.check("alice", refused) is None
        assert await file.check("bob", "short\0 and more") is None
        assert bcrypts.calls == 1

    asyncio.run(check())


@pytest.mark.parametrize(
    ("password", "fine"), [("é" * 36, True), ("é" * 37, False), ("", True), ("a\0b", False)]
)
def test_the_limit_counts_bytes(password: str, fine: bool) -> None:
    assert acceptable(password) is fine


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "$2b$10$short",
        "$2x$10$" + "a" * 53,
        "$2b$03$" + "a" * 53,
        "$2b$17$" + "a" * 53,
        "$2b$10$" + "!" * 53,
    ],
)
def test_what_is_no_hash_is_not_used(stored: str) -> None:
    assert not usable(stored.encode())


def test_entries_count_the_last_line_of_a_name() -> None:
    entries = parse(f"a:{hashed('1')}\na:{hashed('2')}\nb:{hashed('3')}\nb:plain\n".encode())
    assert entries.hashes == {"a": hashed("2").encode()}
    assert len(entries.unusable) == 3


USERS = f"""
users:
  alice:
    password: {hashed("alice's")}
    groups: [dev, ops]
  bob: {{password: {hashed("bob's")}, disabled: true}}
  0123: {{password: {hashed("zero")}}}
groups:
  dev: [carol, bob]
  qa: alice
"""


def _users(tmp_path: Path, text: str = USERS) -> str:
    path = tmp_path / "users.yml"
    path.write_text(text)
    return str(path)


def test_users_have_groups_and_can_be_shut_out(tmp_path: Path, passwords: Passwords) -> None:
    async def check() -> None:
        file = UsersFile(_users(tmp_path), passwords)
        alice = await file.check("alice", "alice's")
        assert alice is not None
        assert alice.groups == {"dev", "ops", "qa"}
        assert await file.check("bob", "bob's") is None
        assert await file.find("bob") is None
        assert file.disables("bob")
        assert await file.check("0123", "zero") is not None
        assert await file.check("83", "zero") is None

    asyncio.run(check())


def test_everything_wrong_with_users_is_said_at_once(tmp_path: Path, passwords: Passwords) -> None:
    text = (
        "user: {}\nusers:\n  a b: {password: x}\n  alice:\n    pasword: x\n"
        "  bob: {password: '', disabled: perhaps, groups: ['x:y']}\n  bob: 1\ngroups: [a]\n"
    )
    with pytest.raises(Unusable) as refused:
        UsersFile(_users(tmp_path, text), passwords)
    found = "\n".join(refused.value.problems)
    for expected in (
        "line 1: 'user' is not a key of the file; did you mean 'users'.",
        "line 3: 'a b' cannot be a user",
        "line 3: the password of user 'a b' is not a bcrypt hash",
        "line 5: 'pasword' is not a key of user 'alice'; did you mean 'password'.",
        "line 5: user 'alice' lacks 'password'",
        "line 6: disabled is to be true or false, not 'perhaps'",
        "line 6: 'x:y' cannot be a group",
        "line 7: 'bob' is written already on line 6",
        "line 8: groups is to be a map",
    ):
        assert expected in found
    assert hashed("alice's") not in found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "users: *x",
        "\t",
        "users:\n - 1",
        "a: !!python/object:os.system x",
        "\x01",
        "[" * 5000,
    ],
)
def test_what_is_no_file_of_users_is_refused(
    tmp_path: Path, passwords: Passwords, text: str
) -> None:
    with pytest.raises(Unusable):
        UsersFile(_users(tmp_path, text), passwords)


def test_two_files_are_one(tmp_path: Path, passwords: Passwords) -> None:
    path = htpasswd(tmp_path / "htpasswd", "carol", bob="other", alice="other")

    async def check() -> None:
        both = Combined(
            [HtpasswdFile(str(path), passwords), UsersFile(_users(tmp_path), passwords)]
        )
        carol = await both.check("carol", "carol's")
        assert carol is not None
        assert carol.groups == {"dev"}  # from the other file
        assert await both.check("alice", "other") is not None  # the first file has her
        assert await both.check("alice", "alice's") is None
        assert await both.check("bob", "other") is None  # shut out, wherever his password is
        assert await both.remembered("bob", "other") is None
        assert await both.find("bob") is None
        assert (await both.remembered("carol", "carol's")) == carol
        assert await both.check("0123", "zero") is not None
        assert await both.check("nobody", "zero") is None

    asyncio.run(check())
