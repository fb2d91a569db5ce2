"""What two brokers wrote down is compared but for ids, times and the order of hash tables."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "compat" / "journals"))

from dumps import group_records, metadata_records, unexplained

HEAD = "| offset: 7 CreateTime: 1795904040591 keySize: 18 valueSize: 24 sequence: 0 headerKeys: [] "
MEMBER = "client-7d4ec41a-06b0-4fc1-86a0-459ce1df1a04"
OTHER = "client-0b64cd3c-0b7e-4e4f-9a37-3b9b0d2f1a55"
TOPIC_ID, OTHER_ID = "FyLiEPYmQzmJeJYa3VJguQ", "_QuIPrPQQIa3ftMiLfLytA"


def group(leader: str = MEMBER, members: tuple[str, ...] = (MEMBER,), time: int = 1, version: int = 3) -> str:
    rows = ",".join(f'{{"memberId":"{member}","clientId":"{number}"}}' for number, member in members_of(members))
    return (
        f'{HEAD}key: {{"type":"2","data":{{"group":"g"}}}} payload: {{"version":"{version}","data":'
        f'{{"leader":"{leader}","currentStateTimestamp":{time},"members":[{rows}]}}}}\n'
    )


def members_of(members: tuple[str, ...]) -> list[tuple[int, str]]:
    """The members with what tells them apart."""
    return [((MEMBER, OTHER).index(member), member) for member in members]


def deleted(topic: str) -> str:
    return f'{HEAD}key: {{"type":"1","data":{{"group":"g","topic":"{topic}"}}}} payload: <DELETE>\n'


def metadata(kind: str, data: str) -> str:
    return f'{HEAD}payload: {{"type":"{kind}","version":0,"data":{{{data}}}}}\n'


def test_lines_that_are_no_records_are_passed_over() -> None:
    dump = "Dumping x.log\nLog starting offset: 0\nbaseOffset: 0 lastOffset: 0 count: 1\n"
    control = HEAD + 'LeaderChange: {"version":0,"leaderId":1}\n'
    assert group_records(dump + group()) == group_records(group())
    assert metadata_records(dump + control) == {}


def test_ids_and_times_are_not_compared() -> None:
    theirs = group(OTHER, (OTHER,), time=99)
    ours = group(OTHER.replace("client-0b", "client-77"), (OTHER,), time=1)
    assert group_records(group(time=5)) == group_records(group(time=6))
    assert group_records(theirs) != group_records(ours), "the leader is another than the member"


def test_the_order_of_members_is_not_compared_and_who_leads_is() -> None:
    records = group_records(group(MEMBER, (MEMBER, OTHER)))
    assert records == group_records(group(MEMBER, (OTHER, MEMBER)))
    assert records != group_records(group(OTHER, (MEMBER, OTHER)))


def test_the_version_of_a_record_is_compared() -> None:
    assert group_records(group(version=3)) != group_records(group(version=4))


def test_a_row_of_deletions_has_no_order_and_its_place_among_others_has() -> None:
    a, b = deleted("a"), deleted("b")
    assert group_records(a + b + group()) == group_records(b + a + group())
    assert group_records(a + b + group()) != group_records(a + group() + b)


def test_records_of_a_topic_are_found_by_its_id_and_by_its_name() -> None:
    topic = metadata("TOPIC_RECORD", f'"name":"t","topicId":"{TOPIC_ID}"')
    partition = metadata("PARTITION_RECORD", f'"topicId":"{TOPIC_ID}","partitionId":0')
    setting = metadata("CONFIG_RECORD", '"resourceName":"t","name":"x","value":"1"')
    none = metadata("NO_OP_RECORD", "")
    found = metadata_records(topic + setting + none + partition)
    assert [record["type"] for record in found["t"]] == ["TOPIC_RECORD", "CONFIG_RECORD", "PARTITION_RECORD"]
    assert list(found) == ["t"]
    assert found == metadata_records((topic + setting + partition).replace(TOPIC_ID, OTHER_ID))


def test_what_a_rule_is_about_is_explained_and_nothing_else() -> None:
    lines = ["metadata.CLEAR_ELR_RECORD: only kafka has it", "metadata.t[0].version: kafkapy 1, kafka 2"]
    assert unexplained(lines, {"CLEAR_ELR_RECORD": "why"}) == lines[1:]
