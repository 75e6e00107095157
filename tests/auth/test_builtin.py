"""The token server and the authorizers over it: rows 26-29, 33, 34 and 83 of the attack list, and more."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import bcrypt
import pytest

from auth.accounts import Combined, Passwords
from auth.audit import Event, What
from auth.authorizers import RECHECK, BasicAuthorizer, BuiltinAuthorizer
from auth.bearer import Challenge
from auth.builtin import Issued, OAuthRequest, RequestInvalid, TokenRequest, TokenServer
from auth.htpasswd import HtpasswdFile
from auth.jwk import KeysUnavailable
from auth.keys import KeyRing
from auth.login import Login, Logins
from auth.model import (
    CATALOG,
    Access,
    Asking,
    Denied,
    Identity,
    Refused,
    Throttled,
    Undecided,
    repository,
)
from auth.oidc import OidcIssuers, TrustedIssuer
from auth.policy import Decision, Policy, everything
from auth.policy_file import PolicyFile, parse
from auth.refresh import RefreshTokens
from auth.revocations import Revocation, RevocationList
from auth.rights import Rights
from auth.robots import RobotTokens
from auth.signing import SigningKey
from auth.throttle import Limit, Throttle
from auth.tokens import Verifier, issue
from auth.users import UsersFile
from tests.auth.accountfiles import Clock, hashed, htpasswd
from tests.auth.issuer import Issuer
from tests.auth.test_robots import Kept

SERVICE = "registry.example.com"
ISSUER = "holdfast"
SECRET = b"0123456789abcdef"
HOME = "192.0.2.1"

POLICY = b"""\
version: 1
allow:
  - {who: [user:alice, "robot:ci"], repositories: [team/**], actions: [pull, push]}
  - {who: [user:alice], repositories: [alice/**], actions: all}
  - {who: [user:bob], repositories: [team/lib], actions: [pull]}
  - {who: [everybody], repositories: [public/**], actions: [pull]}
  - who: [{oidc: {issuer: ci, repository: my-org/*, ref: refs/heads/main}}]
    repositories: [team/**]
    actions: [pull, push]
deny:
  - {who: [everybody], repositories: [team/frozen], actions: [push]}
"""

T = TypeVar("T")


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def asking(authorization: str | None = None, client: str = HOME, certificate: str = "") -> Asking:
    return Asking(authorization, client, certificate, "https://registry.example.com")


def as_user(name: str, password: str | None = None) -> Asking:
    return asking(basic(name, f"{name}'s" if password is None else password))


@dataclass
class House:
    """Everything on one node."""

    clock: Clock
    server: TokenServer
    builtin: BuiltinAuthorizer
    htpasswd: BasicAuthorizer
    robots: RobotTokens
    kept: Kept
    keys: KeyRing
    users: Path
    events: list[Event] = field(default_factory=list)

    def events_of(self, what: What) -> list[Event]:
        return [event for event in self.events if event.what is what]

    async def token(self, who: Asking, *scopes: str, offline: bool = False) -> Issued:
        return await self.server.get(TokenRequest(SERVICE, scopes, offline), who)

    async def bearer(self, who: Asking, *scopes: str) -> Asking:
        return asking(f"Bearer {(await self.token(who, *scopes)).token}")


Make = Callable[..., House]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer(Clock())
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path, issuer: Issuer) -> Iterator[Make]:
    passwords = Passwords()
    kept = Kept()
    path = htpasswd(tmp_path / "htpasswd", "alice", "bob")

    def made(
        policy: Policy | PolicyFile | None = None, *, certificates: bool = False, **server: object
    ) -> House:
        """Another call makes another node of the same registry."""
        events: list[Event] = []
        clock = issuer.clock
        keys = KeyRing(str(tmp_path / "keys"), clock=clock)
        robots = RobotTokens([SECRET], clock=clock)
        throttle = Throttle(
            per_account=Limit(3, 1.0, 60.0), per_address=Limit(8, 1.0, 60.0), clock=clock
        )
        trusted = TrustedIssuer(
            "ci", issuer.url, (SERVICE,), username="{repository}", claims=("ref",)
        )
        logins = Logins(
            HtpasswdFile(str(path), passwords, interval=0),
            robots=robots,
            revocations=RevocationList(kept, clock=clock),
            issuers=OidcIssuers([trusted], clock=clock),
            throttle=throttle,
            audit=events.append,
            clock=clock,
        )
        rights = Rights(policy or parse(POLICY))
        challenge = Challenge(SERVICE, autoredirect_path="/auth/token")
        verifier = Verifier(keys, ISSUER, [SERVICE], clock=clock)
        return House(
            clock,
            TokenServer(
                logins,
                rights,
                keys,
                issuer=ISSUER,
                service=SERVICE,
                refresh_tokens=RefreshTokens([SECRET], clock=clock),
                certificates=certificates,
                audit=events.append,
                clock=clock,
                **server,  # type: ignore[arg-type]  # what a test names
            ),
            BuiltinAuthorizer(
                logins,
                rights,
                verifier,
                challenge,
                certificates=certificates,
                audit=events.append,
                clock=clock,
            ),
            BasicAuthorizer(
                logins, rights, realm="Holdfast", certificates=certificates, audit=events.append
            ),
            robots,
            kept,
            keys,
            path,
            events,
        )

    yield made
    passwords.close()


@pytest.fixture
def house(make: Make) -> House:
    return make()


def run(awaitable: Awaitable[T]) -> T:
    async def awaited() -> T:
        return await awaitable

    return asyncio.run(awaited())


async def refused(answer: Awaitable[object]) -> str:
    with pytest.raises(Refused) as found:
        await answer
    return found.value.challenge


def test_docker_logs_in_pulls_and_pushes(house: House) -> None:
    async def check() -> None:
        challenge = await refused(house.builtin.authorize(asking(), []))
        assert challenge == (
            f'Bearer realm="https://registry.example.com/auth/token",service="{SERVICE}"'
        )
        issued = await house.token(as_user("alice"), "repository:team/app:pull,push")
        assert issued.expires_in == 300
        assert issued.access == (repository("team/app", "pull", "push"),)
        answer = issued.rendered(oauth=False)
        assert answer["token"] == answer["access_token"] == issued.token
        assert answer["issued_at"] == "2027-01-15T08:00:00Z"
        assert "refresh_token" not in answer
        bearer = asking(f"Bearer {issued.token}")
        assert (await house.builtin.authorize(bearer, [])).name == "alice"
        identity = await house.builtin.authorize(bearer, [repository("team/app", "pull", "push")])
        assert (identity.name, identity.method) == ("alice", "htpasswd")
        assert identity.rule == "allow rule 1 (line 3)"

    run(check())
    (token,) = house.events_of(What.TOKEN_ISSUED)
    assert (token.who, token.client, token.access) == (
        "alice",
        HOME,
        (repository("team/app", "pull", "push"),),
    )
    assert "allow rule 1 (line 3)" in token.rule


def test_the_intersection_is_granted_and_the_rest_is_audited(house: House) -> None:
    async def check() -> None:
        issued = await house.token(
            as_user("bob"),
            "repository:team/lib:pull,push,delete",
            "repository:team/app:pull repository:public/x:*",
            "registry:catalog:*",
            "registry:config:*",
            "plugin:x:pull",
        )
        assert issued.access == (
            repository("team/lib", "pull"),
            repository("public/x", "pull"),
            CATALOG,
        )

    run(check())
    denied = {event.access[0]: event.rule for event in house.events_of(What.DENIED)}
    assert denied[repository("team/lib", "push", "delete")] == "no rule allows it"
    assert repository("team/app", "pull") in denied


def test_nobody_gets_a_token_for_what_is_public(house: House) -> None:
    async def check() -> None:
        issued = await house.token(
            asking(), "repository:public/x:pull,push", "repository:team/a:pull"
        )
        assert issued.access == (repository("public/x", "pull"),)
        bearer = asking(f"Bearer {issued.token}")
        assert (await house.builtin.authorize(bearer, [repository("public/x", "pull")])).name == ""
        for other in (repository("team/a", "pull"), repository("public/x", "push"), CATALOG):
            assert "insufficient_scope" in await refused(house.builtin.authorize(bearer, [other]))
        # and without a token too, for who has only curl
        await house.builtin.authorize(asking(), [repository("public/x", "pull")])
        assert "error=" not in await refused(
            house.builtin.authorize(asking(), [repository("team/a", "pull")])
        )

    run(check())


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        ("repository:alice/a:pull", repository("alice/a", "pull", "push")),  # row 26
        ("repository:alice/a:pull", repository("alice/a", "delete")),
        ("repository:alice/a:push", repository("alice/a", "pull", "push")),  # row 27
        ("repository:alice/a:pull,push", repository("alice/a", "delete")),  # row 29
        ("repository:alice/a:pull,push", CATALOG),  # row 33
        ("repository:alice/a:pull", repository("alice/b", "pull")),
        ("repository:alice/a:pull", repository("alice/a/b", "pull")),
        ("repository:alice/**:pull", repository("alice/a", "pull")),
        ("repository:*:pull", repository("alice/a", "pull")),
        ("", repository("alice/a", "pull")),
    ],
)
def test_a_token_reaches_no_further_than_it_says(house: House, scope: str, wanted: Access) -> None:
    async def check() -> None:
        bearer = await house.bearer(as_user("alice"), scope)
        challenge = await refused(house.builtin.authorize(bearer, [wanted]))
        assert 'error="insufficient_scope"' in challenge
        named = f"{wanted.type}:{wanted.name}:{','.join(wanted.actions)}"
        assert f'scope="{named}"' in challenge

    run(check())
    assert house.events_of(What.DENIED)


def test_what_a_token_is_allowed_is_decided_once_while_nothing_changes(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yml"
    path.write_bytes(POLICY)
    house = make(PolicyFile(str(path), interval=0))
    decided: list[Access] = []
    decide = Rights.decide

    def noted(rights: Rights, identity: Identity, access: Access) -> Decision:
        decided.append(access)
        return decide(rights, identity, access)

    monkeypatch.setattr(Rights, "decide", noted)

    async def check() -> None:
        bearer = await house.bearer(as_user("alice"), "repository:team/app:pull,push")
        pull, push = [repository("team/app", "pull")], [repository("team/app", "push")]

        async def times(wanted: list[Access]) -> int:
            decided.clear()
            answers = [await house.builtin.authorize(bearer, wanted) for _ in range(3)]
            assert len({(each.name, each.rule) for each in answers}) == 1
            return len(decided)

        assert await times(pull) == 2, "once with its signature, once to be remembered"
        assert await times(pull) == 0
        assert await times(push) == 1
        path.write_bytes(POLICY + b"# the same, but another file\n")
        assert await times(pull) == 1
        htpasswd(house.users, "alice", "bob", "carol")
        assert await times(pull) == 1
        house.clock.pass_(RECHECK)
        assert await times(pull) == 2
        monkeypatch.setattr("auth.authorizers._ALLOWED", 2)
        for _ in range(3):
            await times(push)
            await times(pull)
        (known,) = house.builtin._verified.values()
        assert len(known.allowed) <= 2

    run(check())


def test_a_star_is_what_the_policy_gives_of_pull_push_and_delete(house: House) -> None:  # row 28
    async def check() -> None:
        for name, granted in (
            ("alice/a", {"pull", "push", "delete"}),
            ("team/a", {"pull", "push"}),
        ):
            issued = await house.token(as_user("alice"), f"repository:{name}:*")
            assert set(issued.access[0].actions) == granted

    run(check())


def test_a_forged_or_foreign_token_is_none(house: House, tmp_path: Path) -> None:
    other = KeyRing(str(tmp_path / "others"), clock=house.clock).signing()
    ours = house.keys.signing()

    def made(key: SigningKey, **changes: str) -> str:
        named = {"issuer": ISSUER, "audience": SERVICE} | changes
        return issue(
            key,
            issuer=named["issuer"],
            audience=named["audience"],
            subject="alice",
            lifetime=300,
            access=[repository("alice/a", "pull")],
            extra={"holdfast": {"method": "htpasswd"}} if "plain" not in changes else {},
            clock=house.clock,
        )

    async def check() -> None:
        for token in (
            made(other),
            made(ours, issuer="else"),
            made(ours, audience="else"),
            made(ours, plain=""),
            made(ours)[:-4] + "AAAA",
            "x",
            "a.b.c",
        ):
            challenge = await refused(house.builtin.authorize(asking(f"Bearer {token}"), []))
            assert 'error="invalid_token"' in challenge
        await house.builtin.authorize(asking(f"Bearer {made(ours)}"), [])

    run(check())


def test_a_token_ends(house: House) -> None:
    async def check() -> None:
        bearer = await house.bearer(as_user("alice"), "repository:alice/a:pull")
        wanted = [repository("alice/a", "pull")]
        house.clock.pass_(299)
        await house.builtin.authorize(bearer, wanted)
        house.clock.pass_(61)
        assert "invalid_token" in await refused(house.builtin.authorize(bearer, wanted))

    run(check())


def test_a_user_who_is_removed_or_has_another_password_is_out_at_once(house: House) -> None:
    async def check() -> None:
        wanted = [repository("alice/a", "pull")]
        bearer = await house.bearer(as_user("alice"), "repository:alice/a:pull")
        await house.builtin.authorize(bearer, wanted)
        htpasswd(house.users, "bob", alice="another")
        assert "invalid_token" in await refused(house.builtin.authorize(bearer, wanted))
        htpasswd(house.users, "bob")
        await refused(house.builtin.authorize(bearer, wanted))
        await refused(house.builtin.authorize(as_user("alice"), wanted))

    run(check())


def test_a_policy_that_changes_counts_at_once(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "policy.yml"
    path.write_bytes(POLICY)
    house = make(PolicyFile(str(path), interval=0))

    async def check() -> None:
        bearer = await house.bearer(as_user("alice"), "repository:team/a:pull,push")
        wanted = [repository("team/a", "pull", "push")]
        await house.builtin.authorize(bearer, wanted)
        path.write_bytes(POLICY.replace(b"[team/frozen]", b"[team/**]"))
        assert "insufficient_scope" in await refused(house.builtin.authorize(bearer, wanted))
        path.write_bytes(b"nonsense")
        assert "insufficient_scope" in await refused(house.builtin.authorize(bearer, wanted))

    run(check())


@pytest.mark.parametrize("mode", ["builtin", "htpasswd"])
def test_a_password_straight_to_the_registry(house: House, mode: str) -> None:
    authorizer = house.builtin if mode == "builtin" else house.htpasswd

    async def check() -> None:
        identity = await authorizer.authorize(
            as_user("alice"), [repository("team/app", "pull", "push")]
        )
        assert identity.name == "alice"
        assert (await authorizer.authorize(as_user("alice"), [])).name == "alice"
        for wanted in (repository("team/app", "delete"), repository("team/frozen", "pull", "push")):
            with pytest.raises(Denied, match="alice may not"):
                await authorizer.authorize(as_user("alice"), [wanted])
        with pytest.raises(Denied):
            await authorizer.authorize(as_user("bob"), [repository("no/such", "pull")])
        challenge = await refused(authorizer.authorize(as_user("alice", "wrong"), []))
        assert challenge.startswith("Bearer" if mode == "builtin" else 'Basic realm="Holdfast"')

    run(check())
    assert house.events_of(What.DENIED)[0].rule == "no rule allows it"
    logins = [event.who for event in house.events_of(What.LOGIN)]
    assert logins == ["alice", "bob"]  # not one for each request


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !",
        "Basic " + base64.b64encode(b"alice").decode(),
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Basic " + base64.b64encode(b"a\nb:x").decode(),
        "Basic é",
        "Digest x",
        "alice",
        "Bearer x",
    ],
)
def test_what_is_no_password(house: House, header: str) -> None:
    async def check() -> None:
        await refused(house.htpasswd.authorize(asking(header), []))
        await refused(house.token(asking(header), ""))

    run(check())


def test_nothing_is_shown_by_empty_basic_credentials(house: House) -> None:
    """As podman and skopeo send them where they have none."""

    async def check() -> None:
        await house.htpasswd.authorize(as_user("", ""), [repository("public/x", "pull")])
        await refused(house.htpasswd.authorize(as_user("", ""), [repository("team/x", "pull")]))
        await refused(house.htpasswd.authorize(as_user("", ""), []))
        await refused(house.htpasswd.authorize(as_user("", "x"), [repository("public/x", "pull")]))

    run(check())


def test_without_a_policy(make: Make) -> None:
    closed, open_ = make(everything()), make(everything(anonymous_pull=True))

    async def check() -> None:
        for house in (closed, open_):
            for authorizer in (house.htpasswd, house.builtin):
                every = [repository("any/thing", "pull", "push", "delete"), CATALOG]
                await authorizer.authorize(as_user("alice"), every)
                await refused(authorizer.authorize(asking(), [repository("x", "push")]))
                await refused(authorizer.authorize(asking(), [CATALOG]))
                await refused(authorizer.authorize(asking(), []))
        await refused(closed.htpasswd.authorize(asking(), [repository("x", "pull")]))
        await open_.htpasswd.authorize(asking(), [repository("x", "pull")])
        assert (closed.htpasswd.reads_everything, open_.builtin.reads_everything) == (False, True)

    run(check())


def test_the_catalog_shows_what_may_be_pulled(house: House) -> None:  # row 34
    names = ["alice/x", "public/x", "team/app", "team/lib", "zoo/x"]

    def shown(identity: Identity) -> list[str]:
        assert not house.builtin.permits(identity, CATALOG)
        return [n for n in names if house.builtin.permits(identity, repository(n, "catalog"))]

    async def check() -> None:
        by_token = await house.bearer(as_user("bob"), "registry:catalog:*")
        for who in (by_token, as_user("bob")):
            identity = await house.builtin.authorize(who, [CATALOG])
            assert shown(identity) == ["public/x", "team/lib"]
        assert shown(Identity()) == ["public/x"]

    run(check())


def test_a_name_is_shown_by_its_own_action(make: Make) -> None:
    """`catalog` shows what may not be pulled, and a rule that denies it hides what may."""
    policy = parse(
        b"version: 1\nallow:\n"
        b"  - {who: [authenticated], repositories: [shown/**], actions: [catalog]}\n"
        b"  - {who: [everybody], repositories: ['**'], actions: [pull]}\n"
        b"deny:\n"
        b"  - {who: [user:bob], repositories: [shown/**], actions: [pull]}\n"
        b"  - {who: [everybody], repositories: [hidden/**], actions: [catalog]}\n"
    )
    house = make(policy)

    async def check() -> None:
        by_token = await house.bearer(as_user("bob"), "registry:catalog:*")
        for who in (by_token, as_user("bob")):
            bob = await house.builtin.authorize(who, [CATALOG])
            assert not house.builtin.permits(bob, CATALOG)
            for name, seen in (("shown/x", True), ("hidden/x", False), ("other/x", True)):
                assert house.builtin.permits(bob, repository(name, "catalog")) is seen
        assert not house.builtin.permits(bob, repository("shown/x", "pull"))

    run(check())


def test_a_mount_needs_a_token_for_its_source(house: House) -> None:
    async def check() -> None:
        wanted = [repository("alice/a", "pull", "push")]
        narrow = await house.bearer(
            as_user("alice"), "repository:alice/a:pull,push", "registry:catalog:*"
        )
        wide = await house.bearer(
            as_user("alice"), "repository:alice/a:pull,push", "repository:team/lib:pull"
        )
        for bearer, expected in ((narrow, False), (wide, True), (as_user("alice"), True)):
            identity = await house.builtin.authorize(bearer, wanted)
            assert house.builtin.permits(identity, repository("team/lib", "pull")) is expected
            assert not house.builtin.permits(identity, repository("secret", "pull"))

    run(check())


def test_a_robot_logs_in_with_its_token(make: Make) -> None:
    house, other = make(), make()
    text, robot = house.robots.create(
        "robot", "ci", lifetime=86400, scopes=["repository:team/web/**:pull,push"]
    )

    async def check() -> None:
        who = as_user("whoever", text)
        issued = await other.token(
            who, "repository:team/web/a:pull,push,delete", "repository:team/b:pull"
        )
        assert issued.access == (repository("team/web/a", "pull", "push"),)
        bearer = asking(f"Bearer {issued.token}")
        wanted = [repository("team/web/a", "pull", "push")]
        identity = await house.builtin.authorize(bearer, wanted)
        assert (identity.name, identity.method) == ("robot:ci", "robot")
        assert (await house.htpasswd.authorize(who, wanted)).name == "robot:ci"
        with pytest.raises(Denied):
            await house.builtin.authorize(who, [repository("team/b", "pull")])
        with pytest.raises(Denied):
            await house.builtin.authorize(who, [repository("public/a", "pull")])
        catalog = await house.builtin.authorize(
            await house.bearer(who, "registry:catalog:*"), [CATALOG]
        )
        assert house.builtin.permits(catalog, repository("team/web/a", "catalog"))
        assert not house.builtin.permits(catalog, repository("team/web/a", "pull"))
        assert not house.builtin.permits(catalog, repository("team/b", "catalog"))

        house.kept.add(Revocation(robot.id, robot.expires))
        house.clock.pass_(30)
        for node in (house, other):
            await refused(node.builtin.authorize(who, wanted))
            await refused(node.token(who))
            assert "invalid_token" in await refused(node.builtin.authorize(bearer, wanted))

    run(check())


def test_a_personal_token_is_its_user_within_its_scopes(house: House) -> None:
    text, _ = house.robots.create(
        "personal", "alice", lifetime=86400, scopes=["repository:alice/**:pull"]
    )

    async def check() -> None:
        who = as_user("alice", text)
        issued = await house.token(who, "repository:alice/a:pull,push", offline=True)
        assert issued.access == (repository("alice/a", "pull"),)
        assert issued.refresh_token is None
        assert issued.identity.name == "alice"
        htpasswd(house.users, "bob")
        await refused(house.token(who))

    run(check())


def test_tokens_of_others_are_no_passwords(house: House) -> None:
    forged, _ = RobotTokens([b"another secret of another"], clock=house.clock).create(
        "robot", "ci", lifetime=60
    )
    short, _ = house.robots.create("robot", "ci", lifetime=60)

    async def check() -> None:
        await refused(house.token(as_user("alice", forged)))
        await house.token(as_user("alice", short))
        house.clock.pass_(61)
        await refused(house.token(as_user("alice", short)))

    run(check())


def test_a_job_logs_in_with_its_identity_token(house: House, issuer: Issuer) -> None:
    async def check() -> None:
        who = as_user("oidc", issuer.token())
        issued = await house.token(who, "repository:team/a:pull,push,delete", offline=True)
        assert issued.identity.name == "ci:my-org/app"
        assert issued.access == (repository("team/a", "pull", "push"),)
        bearer = asking(f"Bearer {issued.token}")
        identity = await house.builtin.authorize(bearer, [repository("team/a", "pull", "push")])
        assert identity.method == "oidc"

        branch = as_user("oidc", issuer.token(ref="refs/heads/other"))
        assert (await house.token(branch, "repository:team/a:pull")).access == ()
        await refused(house.token(as_user("oidc", issuer.token(aud="else"))))
        await refused(house.token(as_user("oidc", "secret")))
        await refused(house.token(as_user("alice", issuer.token())))

        # A job outlasts its identity token by what docker keeps instead of it.
        assert issued.refresh_token is not None
        house.clock.pass_(3599)
        await refused(house.token(who))
        form = OAuthRequest(
            "refresh_token",
            SERVICE,
            "repository:team/a:push",
            refresh_token=issued.refresh_token,
        )
        assert (await house.server.post(form, asking())).access == (repository("team/a", "push"),)
        house.clock.pass_(1)
        await refused(house.server.post(form, asking()))

    run(check())


def test_an_issuer_that_is_down_is_nobody_s_failure(house: House, issuer: Issuer) -> None:
    async def check() -> None:
        issuer.down = True
        for _ in range(20):
            with pytest.raises(Undecided):
                await house.token(as_user("oidc", issuer.token()))
        await house.token(as_user("alice"))

    run(check())


def test_oauth(house: House) -> None:
    async def check() -> None:
        form = OAuthRequest(
            "password",
            SERVICE,
            "repository:team/a:pull repository:team/b:pull,push",
            username="alice",
            password="alice's",
            access_type="offline",
        )
        issued = await house.server.post(form, asking())
        answer = issued.rendered(oauth=True)
        assert answer["scope"] == "repository:team/a:pull repository:team/b:pull,push"
        assert "token" not in answer
        assert issued.refresh_token is not None
        again = OAuthRequest(
            "refresh_token", SERVICE, "repository:alice/a:*", refresh_token=issued.refresh_token
        )
        refreshed = await house.server.post(again, asking())
        assert refreshed.refresh_token == issued.refresh_token
        assert refreshed.identity.name == "alice"
        await house.builtin.authorize(
            asking(f"Bearer {refreshed.token}"), [repository("alice/a", "delete")]
        )
        for wrong in ("", "x", issued.token, issued.refresh_token[:-3]):
            await refused(house.server.post(replace(again, refresh_token=wrong), asking()))
        htpasswd(house.users, "bob", alice="another")
        await refused(house.server.post(again, asking()))
        await refused(house.server.post(form, asking()))

    run(check())


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (OAuthRequest("client_credentials"), "unsupported_grant_type"),
        (OAuthRequest(""), "unsupported_grant_type"),
        (OAuthRequest("password", "other"), "invalid_request"),
        (OAuthRequest("password", SERVICE), "invalid_request"),
        (OAuthRequest("password", SERVICE, "nonsense", "alice", "alice's"), "invalid_scope"),
    ],
)
def test_what_makes_no_sense(house: House, form: OAuthRequest, code: str) -> None:
    async def check() -> None:
        with pytest.raises(RequestInvalid) as found:
            await house.server.post(form, asking())
        assert found.value.code == code

    run(check())


def test_failed_log_ins_are_put_off_and_audited(house: House) -> None:  # row 83
    async def check() -> None:
        for number in range(3):
            await refused(house.token(as_user("alice", f"wrong {number}")))
        with pytest.raises(Throttled) as found:
            await house.token(as_user("alice"))
        assert found.value.retry_after == 1
        await house.token(as_user("bob"))
        house.clock.pass_(1)
        await house.token(as_user("alice"))
        for number in range(3, 6):
            await refused(house.token(as_user("alice", f"wrong {number}")))
        with pytest.raises(Throttled):
            await house.htpasswd.authorize(as_user("alice", "wrong 6"), [])
        await house.token(as_user("alice"))  # was right a moment ago: not an attempt

    run(check())
    assert len(house.events_of(What.LOGIN_FAILED)) == 6
    assert len(house.events_of(What.THROTTLED)) == 2
    assert {event.client for event in house.events} == {HOME}
    assert not any("wrong 1" in str(event) or "alice's" in str(event) for event in house.events)


def test_a_spray_over_names_is_put_off_by_address(house: House) -> None:
    async def check() -> None:
        for number in range(8):
            await refused(house.token(as_user(f"user{number}", "x")))
        with pytest.raises(Throttled):
            await house.token(as_user("another", "x"))

    run(check())


def test_many_at_once_with_the_right_password_are_one_log_in(house: House) -> None:
    async def check() -> None:
        wanted = [repository("team/a", "pull")]
        await asyncio.gather(
            *(house.htpasswd.authorize(as_user("alice"), wanted) for _ in range(30))
        )

    run(check())
    assert len(house.events_of(What.LOGIN)) == 1


def test_many_guesses_at_once_gain_nothing(house: House) -> None:
    async def check() -> list[object]:
        guesses = (house.token(as_user("alice", str(number))) for number in range(30))
        return await asyncio.gather(*guesses, return_exceptions=True)

    answers = run(check())
    assert sum(isinstance(answer, Refused) for answer in answers) == 3
    assert sum(isinstance(answer, Throttled) for answer in answers) == 27


def test_a_megabyte_of_password_is_not_looked_at(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(password: bytes, stored: bytes) -> bool:
        raise AssertionError

    monkeypatch.setattr(bcrypt, "checkpw", fail)

    async def check() -> None:
        form = OAuthRequest("password", SERVICE, username="alice", password="x" * 1024 * 1024)
        await refused(house.server.post(form, asking()))
        await refused(house.server.post(replace(form, username="x" * 1000), asking()))
        await refused(house.server.post(replace(form, password="x" * 73), asking()))

    run(check())


def test_one_who_leaves_ends_nobody_s_log_in(house: House) -> None:
    async def check() -> None:
        leaves, stays = (
            asyncio.ensure_future(house.htpasswd.authorize(as_user("alice"), [])) for _ in range(2)
        )
        await asyncio.sleep(0)
        leaves.cancel()
        assert (await stays).name == "alice"

    run(check())


def test_certificates(make: Make, tmp_path: Path) -> None:
    house, without = make(certificates=True), make()
    wanted = [repository("alice/a", "push")]

    async def check() -> None:
        shown = asking(certificate="alice")
        for authorizer in (house.builtin, house.htpasswd):
            identity = await authorizer.authorize(shown, wanted)
            assert (identity.name, identity.method) == ("alice", "certificate")
        issued = await house.token(shown, "repository:alice/a:push", offline=True)
        assert issued.refresh_token is None
        await house.builtin.authorize(asking(f"Bearer {issued.token}"), wanted)
        # What is shown besides comes first.
        both = asking(basic("bob", "bob's"), certificate="alice")
        with pytest.raises(Denied, match="bob"):
            await house.htpasswd.authorize(both, wanted)
        await refused(without.htpasswd.authorize(shown, wanted))
        for name in ("robot:ci", "ci:my-org/app", "a\nb", "x" * 300):
            await refused(house.htpasswd.authorize(asking(certificate=name), wanted))

    run(check())


def test_a_certificate_of_a_disabled_account(tmp_path: Path) -> None:
    path = tmp_path / "users.yml"
    path.write_text(f"users:\n  alice: {{password: {hashed('x')}, disabled: true}}\n")
    passwords = Passwords()
    logins = Logins(UsersFile(str(path), passwords))
    authorizer = BasicAuthorizer(logins, Rights(everything()), realm="r", certificates=True)
    run(refused(authorizer.authorize(asking(certificate="alice"), [])))
    assert run(authorizer.authorize(asking(certificate="bob"), [])).name == "bob"
    passwords.close()


def test_a_certificate_of_an_account_that_is_disabled_later(tmp_path: Path) -> None:
    """Nobody ever shows a password here, which would make the file be looked at."""
    path = tmp_path / "users.yml"
    text = f"users:\n  alice: {{password: {hashed('x')}, groups: [dev]}}\n"
    path.write_text(text)
    passwords = Passwords()
    users = Combined([UsersFile(str(path), passwords, interval=0)])
    authorizer = BasicAuthorizer(Logins(users), Rights(everything()), realm="r", certificates=True)
    shown = asking(certificate="alice")
    assert run(authorizer.authorize(shown, [])).groups == {"dev"}
    path.write_text(text.replace("[dev]", "[ops]"))
    assert run(authorizer.authorize(shown, [])).groups == {"ops"}
    path.write_text(text.replace("groups: [dev]", "disabled: true"))
    run(refused(authorizer.authorize(shown, [])))
    passwords.close()


def test_without_keys_there_are_no_tokens(make: Make) -> None:
    house = make()

    class NoKeys:
        def signing(self) -> SigningKey:
            raise KeysUnavailable("the disk is gone: /secret/path")

    house.server._keys = NoKeys()

    async def check() -> None:
        with pytest.raises(Undecided) as found:
            await house.token(as_user("alice"))
        assert "secret" not in found.value.reason

    run(check())


def test_keys_rotate_without_ending_tokens(make: Make) -> None:
    house, other = make(), make()

    async def check() -> None:
        wanted = [repository("alice/a", "pull")]
        before = await house.bearer(as_user("alice"), "repository:alice/a:pull")
        house.keys.rotate()
        house.clock.pass_(120)
        after = await house.bearer(as_user("alice"), "repository:alice/a:pull")
        for bearer in (before, after):
            for node in (house, other):
                await node.builtin.authorize(bearer, wanted)

    run(check())


def test_what_cannot_be_configured(make: Make) -> None:
    with pytest.raises(ValueError, match="60 seconds"):
        make(lifetime=59)
    with pytest.raises(ValueError, match="revocations"):
        Logins(None, robots=RobotTokens([SECRET]))
    with pytest.raises(ValueError, match="quotes"):
        BasicAuthorizer(Logins(None), Rights(everything()), realm='a"b')


def test_a_login_is_an_identity() -> None:
    login = Login("alice", "htpasswd", frozenset({"dev"}))
    assert isinstance(login, Identity)
    assert replace(login, rule="x").groups == {"dev"}
