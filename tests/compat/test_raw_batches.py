"""The raw batches of the differential run: what is bent is bent as said, and drawn batches come again and shrink."""

import gzip
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "compat" / "differential"))

import bends
from framings import cuts, damages, framings
from mutations import Cut, Draft, Edit, Flip, Repeat, draw
from raw_batches import AT, FIELDS, batch_of, bent, message, record, varint
from verdicts import time_text, without_times

from kafkapy.records.batch import Compression, crc_matches, read_header, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.compression import decompress
from kafkapy.records.record import Record, read_records

TOPICS = ("plain", "compacted")


def test_a_batch_that_is_not_bent_is_that_of_the_builder() -> None:
    rows = [Record(at, AT + at, b"key", b"value", [("name", b"content")]) for at in range(3)]
    bytes_of = [record(at, headers=[(b"name", b"content")]) for at in range(3)]
    assert batch_of(bytes_of) == build_batch(rows, leader_epoch=-1)
    assert read_records(batch_of(bends.THREE))[1] == Record(1, AT + 1, b"key", None, [])


@pytest.mark.parametrize("name", FIELDS)
def test_one_field_is_bent_and_no_other(name: str) -> None:
    good = batch_of(bends.THREE)
    new = 2 if name == "magic" else read_header(good)._asdict()[name] ^ 1
    batch = bent(good, **{name: new})
    changed = {
        field for field, value in read_header(batch)._asdict().items() if value != getattr(read_header(good), field)
    }
    assert changed - {"crc"} == {name} - {"crc", "magic"}
    assert name in ("batch_length", "crc") or crc_matches(batch, 0, read_header(batch))


def test_numbers_of_a_record_may_be_written_longer_than_they_need_be() -> None:
    assert varint(1) == b"\x02"
    assert varint(-1, 3) == b"\x81\x80\x00"
    plain = record(1, timestamp_delta=varint(1, 5), key_size=varint(3, 2))
    assert read_records(batch_of([record(0), plain]))[1] == Record(1, AT + 1, b"key", b"value", [])


def test_a_record_says_what_it_is_told_to_say() -> None:
    assert record(0, longer_by=2)[0] == record(0)[0] + 4
    assert record(0, length=-1)[:1] == b"\x01"
    assert record(0, after=b"\xaa\xbb").endswith(b"\x00\xaa\xbb")
    assert record(0, key=None, key_size=5)[4:5] == varint(5)


def test_a_message_of_old_has_its_crc_and_its_length() -> None:
    from kafka.record.legacy_records import LegacyRecordBatch

    for magic in (0, 1):
        batch = LegacyRecordBatch(message(magic), magic)
        assert batch.validate_crc()
        (found,) = list(batch)
        assert (found.key, found.value) == (b"key", b"value")
    assert not LegacyRecordBatch(message(1, crc=1), 1).validate_crc()


@pytest.mark.parametrize("codec", list(Compression)[1:])
def test_framings_that_stand_for_the_same_do(codec: Compression) -> None:
    plain = b"".join(bends.THREE)
    found = framings(codec, plain)
    assert decompress(codec, found["as kafkapy writes it"]) == plain
    if codec is Compression.GZIP:
        assert gzip.decompress(found["three members"]) == plain
    usual = found["as kafkapy writes it"]
    assert list(cuts(codec, plain).values()) == [usual[:size] for size in range(len(usual))]
    assert all(
        sum(a != b for a, b in zip(usual, damage, strict=True)) == 1 for damage in damages(codec, plain).values()
    )


def test_the_corpus_is_the_same_each_time_and_no_name_is_taken_twice() -> None:
    for corpus in (bends.headers, bends.producers, bends.turned_bits, bends.cut, bends.several, bends.records):
        first, again = corpus(), corpus()
        assert first == again
        assert len(first) > 30
    for name, batch in bends.turned_bits().items():
        ((_, header),) = walk(batch)
        assert crc_matches(batch, 0, header), name


def test_a_seed_draws_the_same_batches() -> None:
    drafts = [[draw(random.Random(7), TOPICS, 5) for _ in range(3)] for _ in range(2)]
    assert drafts[0] == drafts[1]
    rng = random.Random(1)
    drawn = [draw(rng, TOPICS, 5).build() for _ in range(500)]
    assert len(set(drawn)) > 480
    right = sum(len(batch) > 60 and crc_matches(batch, 0, header) for batch in drawn for _, header in walk_of(batch))
    assert right > 350, "most are to be looked into, not refused for their CRC"


def walk_of(batch: bytes) -> list[tuple[int, object]]:
    from kafkapy.records.batch import CorruptBatch

    try:
        return list(walk(batch))[:1]
    except CorruptBatch:
        return []


def test_mutations_do_what_they_say_wherever_they_are_put() -> None:
    assert Edit(1, 2, b"xyz")(b"abcd") == b"axyzd"
    assert Edit(7, 1, b"x")(b"abcd") == b"abxd"
    assert Flip(2, 1)(b"abc") == b"abb"
    assert Flip(2, 1)(b"") == b""
    assert Cut(6)(b"abcd") == b"a"
    assert Repeat(1, 2)(b"abcd") == b"abcbcd"


def test_a_draft_shrinks_to_what_matters() -> None:
    draft = Draft(
        topic="compacted",
        version=3,
        codec=Compression.GZIP,
        records=({"offset_delta": 0}, {"offset_delta": 1, "key_size": -2, "value": b"v"}, {"offset_delta": 2}),
        plain=(Flip(3, 1),),
        header=(("max_timestamp", -1), ("base_sequence", 4)),
    )

    def differs(candidate: Draft) -> bool:
        return ("base_sequence", 4) in candidate.header and any("key_size" in fields for fields in candidate.records)

    while smaller := next((candidate for candidate in draft.smaller() if differs(candidate)), None):
        draft = smaller
    expected = Draft(
        "plain", 13, Compression.NONE, ({"offset_delta": 1, "key_size": -2},), header=(("base_sequence", 4),)
    )
    assert draft == expected


def test_who_asks_again_asks_as_another_producer() -> None:
    header = (("producer_id", 5), ("producer_epoch", 0), ("producer_id", -2))
    draft = Draft("plain", 13, Compression.NONE, ({"offset_delta": 0},), header=header, producer_id=5)
    assert draft.of_producer(6).header == (("producer_id", 6), *header[1:])
    bare = replace(draft, header=(("producer_id", 9),))
    assert bare.of_producer(6).header == bare.header, "an id that is bent stays"


def test_what_moves_with_the_clock_is_left_out_of_a_verdict() -> None:
    text = "Timestamp 5 of message with offset 0 is out of range. The timestamp should be within [17, 1795904040591]"
    assert without_times(text).endswith("offset 0 is out of range. The timestamp should be within [<low>, <high>]")
    assert without_times("in topic partition d1-2-t-0 and") == "in topic partition <topic>-0 and"
    assert [time_text(at) for at in (-1, AT, 1_795_904_040_591)] == [-1, AT, "<now>"]
