"""Nothing that was saved is lost: not by a reload, an undo, a second process, or kill -9 in the middle of votes."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rating_kit import make_pool, said

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.rating import database
from tunewright.rating.config import RateConfig
from tunewright.rating.design import Design
from tunewright.rating.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "s.sqlite", make_pool(), RateConfig())


def test_a_new_store_holds_what_is_rated(store: Store, tmp_path: Path) -> None:
    again = Store.open(tmp_path / "s.sqlite")
    assert again.items == make_pool().items
    assert again.systems == ("base", "tuned")
    assert again.secret == store.secret and len(store.secret) == 64
    assert again.fingerprint == store.fingerprint
    assert again.votes() == []
    assert stat.S_IMODE((tmp_path / "s.sqlite").stat().st_mode) == 0o600


def test_the_log_is_synced_on_every_commit(store: Store) -> None:
    assert store._database.rows("PRAGMA journal_mode") == [("wal",)]
    assert store._database.rows("PRAGMA synchronous") == [(2,)], "FULL"


def test_a_rater_goes_on_where_they_stopped(store: Store, tmp_path: Path) -> None:
    rater = store.join("Lin")
    tasks = Design(("base", "tuned"), 12, 7, 0.1).tasks(0)
    assert store.task(rater, 0) == tasks[0]
    assert store.task(rater, len(tasks)) is None
    for position in range(3):
        assert store.next_position(rater) == position
        store.cast(rater, position, said("left", 2, 0, note="因为"))
    store.close()
    again = Store.open(tmp_path / "s.sqlite")
    assert again.join("lin") == rater, "names differ beyond case"
    assert again.next_position(rater) == 3
    assert again.progress(rater).done == 3 and again.progress(rater).total == 13
    vote = again.votes()[0]
    assert vote.rater == "Lin" and vote.judgement.note == "因为"
    assert vote.outcome == tasks[0].left and vote.item == tasks[0].item
    assert vote.level(tasks[0].left, "interaction") == 2


def test_undo_withdraws_the_last_vote_and_keeps_its_answers_as_a_draft(store: Store) -> None:
    rater, other = store.join("lin"), store.join("wu")
    assert store.undo(rater) is None
    store.cast(rater, 0, said("left"))
    store.cast(rater, 1, said("right", 2, 0, note="n", corrected={"left": "better"}))
    store.cast(other, 0, said("tie"))
    assert store.undo(rater) == 1
    assert store.next_position(rater) == 1
    assert len(store.votes()) == 2
    draft = store.draft(rater, 1)
    assert draft["preference"] == "right" and draft["note"] == "n" and draft["left.correction"] == "better"
    assert draft["left.correctness"] == "2" and draft["right.personalization"] == "0"
    withdrawn = store._database.rows("SELECT count(*) FROM vote WHERE withdrawn_at IS NOT NULL")
    assert withdrawn == [(1,)], "what was taken back is still there"


def test_a_second_vote_on_a_task_replaces_the_first(store: Store) -> None:
    rater = store.join("lin")
    store.cast(rater, 0, said("left"))
    store.cast(rater, 0, said("right"))
    assert [vote.judgement.preference for vote in store.votes()] == ["right"]
    with pytest.raises(sqlite3.IntegrityError):
        store.cast(rater, 99, said("left"))
    assert len(store.votes()) == 1, "a vote for no task is none"


def test_drafts_are_kept_until_the_vote(store: Store) -> None:
    rater = store.join("lin")
    store.save_draft(rater, 0, {"note": "half"})
    store.save_draft(rater, 0, {"note": "half a line"})
    assert store.draft(rater, 0) == {"note": "half a line"}
    store.cast(rater, 0, said())
    assert store.draft(rater, 0) == {}


def test_two_raters_at_once_lose_nothing(store: Store, tmp_path: Path) -> None:
    """Two threads on one store and a second process' view of it, each with every task of its rater."""
    stores = [store, Store.open(tmp_path / "s.sqlite"), store]

    def work(number: int) -> None:
        rater = stores[number].join(f"rater {number}")
        for position in range(13):
            stores[number].cast(rater, position, said("tie", note=str(position)))

    threads = [threading.Thread(target=work, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    votes = store.votes()
    assert len(votes) == 39
    assert {(vote.rater, vote.position) for vote in votes} == {(f"rater {r}", p) for r in range(3) for p in range(13)}


def test_other_answers_and_other_settings_are_refused(store: Store) -> None:
    store.require(RateConfig(), make_pool())
    store.require(RateConfig(port=1), None)
    with pytest.raises(ConfigError, match=r"begun with rate\.repeats=0\.1, not 0\.2"):
        store.require(RateConfig(repeats=0.2), make_pool())
    with pytest.raises(ConfigError, match="ratings of other answers"):
        store.require(RateConfig(), make_pool(11))


def test_a_sample_of_the_items_is_drawn_by_the_seed(tmp_path: Path) -> None:
    drawn = [
        [item.id for item in Store.create(tmp_path / f"{n}.sqlite", make_pool(40), config).items]
        for n, config in enumerate(
            [RateConfig(max_items=10), RateConfig(max_items=10), RateConfig(max_items=10, seed=8)]
        )
    ]
    assert len(drawn[0]) == 10
    assert drawn[0] == drawn[1] != drawn[2]


def test_files_that_are_no_store_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there are no ratings here"):
        Store.open(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("not a database, and longer than a header of a database would be " * 20)
    with pytest.raises(ArtifactError, match="holds no ratings"):
        Store.open(tmp_path / "text.sqlite")
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE t (x)")
    with pytest.raises(ArtifactError, match="holds no ratings"):
        Store.open(tmp_path / "other.sqlite")
    assert database.is_begun(tmp_path / "other.sqlite") and not database.is_begun(tmp_path / "none.sqlite")
    newer = Store.create(tmp_path / "newer.sqlite", make_pool(1), RateConfig())
    newer._database.rows("PRAGMA user_version=9")
    newer.close()
    with pytest.raises(ArtifactError, match="version 9, this program reads 1"):
        Store.open(tmp_path / "newer.sqlite")


def test_an_empty_file_of_a_killed_start_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.touch()
    sqlite3.connect(path).execute("PRAGMA journal_mode=WAL")
    assert not database.is_begun(path)
    assert Store.create(path, make_pool(), RateConfig()).items


_VOTER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from rating_kit import said
from tunewright.rating.store import Store
store = Store.open(Path(sys.argv[1]))
rater = store.join(sys.argv[3])
while (position := store.next_position(rater)) is not None:
    store.cast(rater, position, said("left", 2, 1, note=f"vote {position} " + "x" * 2000))
    print(position, flush=True)
"""


@pytest.mark.parametrize("after", [1, 40, 90])
def test_kill_9_in_the_middle_of_votes_loses_no_saved_vote(tmp_path: Path, after: int) -> None:
    """A process votes as fast as it can and is killed; every vote it reported as saved is there, whole."""
    path = tmp_path / "s.sqlite"
    Store.create(path, make_pool(300), RateConfig()).close()
    command = [sys.executable, "-c", _VOTER, str(path), str(Path(__file__).parent), "lin"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reported = [int(process.stdout.readline()) for _ in range(after)]
    os.kill(process.pid, signal.SIGKILL)
    reported += [int(line) for line in process.stdout.read().split("\n") if line]
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    store = Store.open(path)
    votes = store.votes()
    assert {vote.position for vote in votes} >= set(reported)
    assert len(votes) <= len(reported) + 1, "at most the one that was being saved is more"
    assert all(vote.judgement.note.startswith(f"vote {vote.position} ") for vote in votes)
    rater = store.join("lin")
    assert store.next_position(rater) == len(votes), "the rater goes on behind the last saved vote"
