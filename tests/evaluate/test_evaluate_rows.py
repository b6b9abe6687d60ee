"""Which rows are asked, and what stands in their metadata."""

from __future__ import annotations

from tunewright.evaluate.rows import drawn, metadata_at, metadata_value


def test_drawn_rows_keep_their_order_and_follow_the_seed() -> None:
    rows = [f"row {index}" for index in range(50)]
    found = drawn(rows, 10, seed=7)
    assert len(set(found)) == 10 and found == sorted(found, key=rows.index)
    assert found == drawn(rows, 10, seed=7) != drawn(rows, 10, seed=8)
    assert drawn(rows, 50, seed=7) == drawn(rows, 60, seed=7) == rows


def test_a_key_with_dots_is_taken_whole_before_it_is_a_path() -> None:
    metadata = {"customer.tier": "gold", "customer": {"tier": "silver", "since": 2019}, "vip": False}
    assert metadata_at(metadata, "metadata.customer.tier") == "gold"
    assert metadata_at(metadata, "customer.since") == 2019 and metadata_value(metadata, "customer.since") == "2019"
    assert metadata_at(metadata, "customer") == metadata["customer"] and metadata_value(metadata, "customer") is None
    assert metadata_value(metadata, "vip") == "false" and metadata_at(metadata, "vip.since") is None
