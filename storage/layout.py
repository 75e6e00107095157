"""The sole mapping from the registry's terms to keys. Nothing else builds or takes apart a key.

    docker/registry/v2
    ├── blobs/<alg>/<2 hex>/<hex>/data           layers, configs and manifests, by content
    ├── repositories/<name>
    │   ├── _manifests                            its existence makes <name> a repository
    │   │   ├── revisions/<alg>/<hex>/link        this manifest is in this repository
    │   │   ├── tags/<tag>
    │   │   │   ├── current/link                  what the tag names now
    │   │   │   └── index/<alg>/<hex>/link        what it ever named
    │   │   └── holdfast                          ours: the last manifest was deleted (object stores)
    │   ├── _layers/<alg>/<hex>/link              this blob may be read through this repository
    │   ├── _uploads/<uuid>                       an upload in progress
    │   │   ├── data                              the bytes so far
    │   │   ├── startedat                         RFC 3339, in UTC, to the second
    │   │   └── hashstates/<alg>/<offset>         the hash of the first <offset> bytes, resumable
    │   └── _holdfast                             ours; Distribution passes over it
    │       ├── pulled/<tag>                      the tag's last pull, to the day, is its time
    │       ├── pulled-by-digest/<alg>/<hex>      likewise of a manifest, by its digest
    │       ├── pushed                            when copied tags were pushed (remote storage)
    │       └── referrers
    │           ├── complete                      every older revision has been looked at
    │           └── <alg>/<hex>/<alg>/<hex>       subject, then referrer: its descriptor
    ├── gc                                        ours: what the collector and the nodes tell each other
    │   ├── pub/<run>-<seq>                       what a run says now: the highest number counts
    │   ├── runs/<run>/                           lists, filters and looks that publications name
    │   ├── fenced/<run>                          another run has taken this one over
    │   ├── keep/<2 hex>/<sha256 of entry>/<id>   a push relies on what was condemned
    │   ├── journal/<day>/<id>                    links that were removed, to put them back
    │   ├── references/<sha256 of name>           what a repository's manifests refer to (remote storage)
    │   ├── trash/<run>/                          what a run removed (filesystem)
    │   ├── last                                  what the last run counted
    │   └── probe-<id>                            to read the store's clock
    └── holdfast                                  ours; Distribution passes over it
        ├── catalog/<hex>                         a repository of this name (remote storage)
        ├── catalog-complete                      every repository has one
        ├── copying/<id>                          a blob that is being copied from another storage
        ├── revoked/<id>.<until>                  a token that was taken back before it expires
        ├── tokens/<id>.<until>                   what is known of a token that was given out
        ├── pulls-since                           since then last pulls are noted
        ├── secret                                signs upload tokens when none is configured
        ├── tmp/                                  files that are being written (filesystem)
        └── locks/                                (filesystem)

All but the two branches named `holdfast` is CNCF Distribution's tree, read and written as it does: a
link holds a digest and nothing else, no newline. FORMAT.md has the rules in full.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag

ROOT = "docker/registry/v2"
REPOSITORIES = f"{ROOT}/repositories"
BLOBS = f"{ROOT}/blobs"
CATALOG = f"{ROOT}/holdfast/catalog"
CATALOG_COMPLETE = f"{ROOT}/holdfast/catalog-complete"
COPYING = f"{ROOT}/holdfast/copying"
REVOKED = f"{ROOT}/holdfast/revoked"
TOKENS = f"{ROOT}/holdfast/tokens"
PULLS_SINCE = f"{ROOT}/holdfast/pulls-since"
SECRET = f"{ROOT}/holdfast/secret"
TEMPORARY = f"{ROOT}/holdfast/tmp"
LOCKS = f"{ROOT}/holdfast/locks"

COLLECTION = f"{ROOT}/gc"
PUBLICATIONS = f"{COLLECTION}/pub"
RUNS = f"{COLLECTION}/runs"
FENCED = f"{COLLECTION}/fenced"
KEPT = f"{COLLECTION}/keep"
JOURNAL = f"{COLLECTION}/journal"
REFERENCES = f"{COLLECTION}/references"
TRASH = f"{COLLECTION}/trash"
LAST_RUN = f"{COLLECTION}/last"

MANIFESTS = "_manifests"
UPLOADS = "_uploads"


def blob(digest: Digest) -> str:
    return f"{BLOBS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def repository(name: RepositoryName) -> str:
    return f"{REPOSITORIES}/{name}"


def manifests(name: RepositoryName) -> str:
    return f"{REPOSITORIES}/{name}/{MANIFESTS}"


def emptied(name: RepositoryName) -> str:
    """Only where storage has no directories: it keeps a repository that has no manifest any more."""
    return f"{manifests(name)}/holdfast"


def revisions(name: RepositoryName) -> str:
    return f"{manifests(name)}/revisions"


def revision_directory(name: RepositoryName, digest: Digest) -> str:
    return f"{revisions(name)}/{digest.algorithm}/{digest.hex}"


def revision(name: RepositoryName, digest: Digest) -> str:
    return f"{revision_directory(name, digest)}/link"


def tags(name: RepositoryName) -> str:
    return f"{manifests(name)}/tags"


def tag_directory(name: RepositoryName, tag: Tag) -> str:
    return f"{tags(name)}/{tag}"


TAG_CURRENT = "current/link"
"""Below a tag's directory."""


def tag_current(name: RepositoryName, tag: Tag) -> str:
    return f"{tag_directory(name, tag)}/{TAG_CURRENT}"


def tag_index(name: RepositoryName, tag: Tag, digest: Digest) -> str:
    return f"{tag_directory(name, tag)}/index/{digest.algorithm}/{digest.hex}/link"


def layer_directory(name: RepositoryName, digest: Digest) -> str:
    return f"{REPOSITORIES}/{name}/_layers/{digest.algorithm}/{digest.hex}"


def layer(name: RepositoryName, digest: Digest) -> str:
    return f"{layer_directory(name, digest)}/link"


class LinkPlace(NamedTuple):
    """Where a layer's or a revision's link is: `<directory>/<hex>/link`."""

    directory: str
    algorithm: str
    hex: str


def link_place(key: str) -> LinkPlace | None:
    """None for every other key, the links of tags among them."""
    named, _, leaf = key.rpartition("/")
    if leaf != "link":
        return None
    directory, _, hexadecimal = named.rpartition("/")
    kind, _, algorithm = directory.rpartition("/")
    if not kind.endswith(("/_layers", f"/{MANIFESTS}/revisions")):
        return None
    return LinkPlace(directory, algorithm, hexadecimal)


def uploads(name: RepositoryName) -> str:
    return f"{REPOSITORIES}/{name}/{UPLOADS}"


def upload(name: RepositoryName, upload_id: str) -> str:
    return f"{uploads(name)}/{upload_id}"


def upload_data(name: RepositoryName, upload_id: str) -> str:
    return f"{upload(name, upload_id)}/data"


def upload_started(name: RepositoryName, upload_id: str) -> str:
    return f"{upload(name, upload_id)}/startedat"


def upload_cancelled(name: RepositoryName, upload_id: str) -> str:
    """Only where storage is remote: an upload without a byte is nowhere else."""
    return f"{upload(name, upload_id)}/cancelled"


def hash_states(name: RepositoryName, upload_id: str, algorithm: str) -> str:
    return f"{upload(name, upload_id)}/hashstates/{algorithm}"


def hash_state(name: RepositoryName, upload_id: str, algorithm: str, offset: int) -> str:
    return f"{hash_states(name, upload_id, algorithm)}/{offset}"


def pulled(name: RepositoryName, tag: Tag) -> str:
    return f"{REPOSITORIES}/{name}/_holdfast/pulled/{tag}"


def pushed(name: RepositoryName) -> str:
    return f"{REPOSITORIES}/{name}/_holdfast/pushed"


def pulled_by_digest(name: RepositoryName, digest: Digest) -> str:
    return f"{REPOSITORIES}/{name}/_holdfast/pulled-by-digest/{digest.algorithm}/{digest.hex}"


def referrers(name: RepositoryName) -> str:
    return f"{REPOSITORIES}/{name}/_holdfast/referrers"


def referrers_complete(name: RepositoryName) -> str:
    return f"{referrers(name)}/complete"


def referrers_of(name: RepositoryName, subject: Digest) -> str:
    return f"{referrers(name)}/{subject.algorithm}/{subject.hex}"


def referrer(name: RepositoryName, subject: Digest, digest: Digest) -> str:
    return f"{referrers_of(name, subject)}/{digest.algorithm}/{digest.hex}"


def publication(run: str, sequence: int) -> str:
    return f"{PUBLICATIONS}/{run}-{sequence:06d}"


def fenced(run: str) -> str:
    return f"{FENCED}/{run}"


def run_directory(run: str) -> str:
    return f"{RUNS}/{run}"


def of_run(run: str, name: str) -> str:
    return f"{run_directory(run)}/{name}"


def run_of(key: str) -> str:
    """The run of a key that of_run() made."""
    return key.removeprefix(f"{RUNS}/").partition("/")[0]


def keep_notes(entry_hash: str) -> str:
    return f"{KEPT}/{entry_hash[:2]}/{entry_hash}"


def keep_note(entry_hash: str, note: str) -> str:
    return f"{keep_notes(entry_hash)}/{note}"


def references(name: RepositoryName) -> str:
    return f"{REFERENCES}/{hashlib.sha256(str(name).encode()).hexdigest()}"


def clock_probe(name: str) -> str:
    return f"{COLLECTION}/probe-{name}"
