"""The transaction coordinator: producers begin, add, end and are shut out, in every version and out of turn."""

import time

from cases.topics import creatable, create
from registry import Scene, case

from kafkapy.protocol.messages import request_class

InitProducerId = request_class(22)
AddPartitions = request_class(24)
AddOffsets = request_class(25)
EndTxn = request_class(26)
Describe = request_class(65)
List = request_class(66)
Find = request_class(10)

BUSY = {14, 15, 16, 51}  # loading, not there yet, or markers are on their way: which one, and how often, is chance


def patiently(s: Scene, request, version=None, note=True):
    """Ask until the answer is not one to ask again; that one is noted."""
    for _ in range(500):
        answer = s.ask(request, version=version, note=False)
        if answer.get("error_code") not in BUSY:
            break
        time.sleep(0.02)
    return s.ask(request, version=version, note=note) if answer.get("error_code") in BUSY else _noted(s, answer, note)


def _noted(s: Scene, answer, note):
    if note:
        s.probe.trace.append(answer)
    return answer


def find(s: Scene) -> None:
    for _ in range(500):
        if s.ask(Find(key=s.topic("id"), key_type=1), version=1, note=False)["error_code"] == 0:
            return
        time.sleep(0.02)


def init(s: Scene, name="id", version=5, note=True, timeout=60_000, **fields):
    transactional_id = s.topic(name) if name else name
    request = InitProducerId(transactional_id=transactional_id, transaction_timeout_ms=timeout, **fields)
    answer = patiently(s, request, version=version, note=note)
    return answer["producer_id"], answer["producer_epoch"]


def settled(s: Scene, name="id", note=True) -> None:
    """Describe the id once no markers are on their way."""
    request = Describe(transactional_ids=[s.topic(name) if name else name])
    for _ in range(500):
        answer = s.ask(request, version=0, note=False)
        [state] = answer["transaction_states"]
        if not state["transaction_state"].startswith("Prepare"):
            break
        time.sleep(0.02)
    state["transaction_start_time_ms"] = state["transaction_start_time_ms"] > 0
    for topic in state["topics"]:
        topic["partitions"].sort()
    _noted(s, answer, note)


def topics(*asked):
    return [AddPartitions.AddPartitionsToTxnTopic(name=name, partitions=list(partitions)) for name, partitions in asked]


def add(s: Scene, producer, asked, name="id", verify=False, note=True, version=None):
    version = s.version if version is None else version
    transactional_id = s.topic(name) if name else name
    if version < 4:
        request = AddPartitions(
            v3_and_below_transactional_id=transactional_id,
            v3_and_below_producer_id=producer[0],
            v3_and_below_producer_epoch=producer[1],
            v3_and_below_topics=asked,
        )
    else:
        transaction = AddPartitions.AddPartitionsToTxnTransaction(
            transactional_id=transactional_id,
            producer_id=producer[0],
            producer_epoch=producer[1],
            verify_only=verify,
            topics=asked,
        )
        request = AddPartitions(transactions=[transaction])
    return s.ask(request, version=version, note=note)


def end(s: Scene, producer, committed=True, name="id", version=None):
    transactional_id = s.topic(name) if name else name
    request = EndTxn(
        transactional_id=transactional_id, producer_id=producer[0], producer_epoch=producer[1], committed=committed
    )
    answer = patiently(s, request, version=s.version if version is None else version)
    settled(s, name)
    return answer.get("producer_id", -1), answer.get("producer_epoch", -1)


@case("InitProducerId", "transactional: new, another instance, after an error, a zombie, timeouts")
def instances(s: Scene) -> None:
    find(s)
    producer_id, _ = init(s, version=s.version)
    init(s, version=s.version)
    if s.version >= 3:
        for id_, epoch in ((0, 1), (0, 1), (0, 0), (0, 9), (5000, 2)):
            init(s, version=s.version, producer_id=producer_id + id_, producer_epoch=epoch)
        init(s, version=s.version, producer_id=producer_id, producer_epoch=-1)
    for timeout in (0, -5, 900_000, 900_001):
        init(s, version=s.version, timeout=timeout)
    settled(s)


@case("InitProducerId", "another instance while a transaction is open", first=3)
def shutting_out(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    producer = init(s)
    add(s, producer, topics((s.topic(), [0])), version=3)
    s.ask(
        InitProducerId(
            transactional_id=s.topic("id"),
            transaction_timeout_ms=60_000,
            producer_id=producer[0],
            producer_epoch=producer[1],
        )
    )
    settled(s)
    for committed, version in ((True, 4), (False, 4), (True, 5), (False, 5)):
        end(s, producer, committed, version=version)
    init(s, version=s.version, producer_id=producer[0], producer_epoch=producer[1])
    init(s, version=s.version)


@case("AddPartitionsToTxn", "add, verify, out of turn, by a zombie, what cannot be added")
def partitions(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    producer = init(s)
    t = s.topic()
    for verify in (False, True) if s.version >= 4 else (False,):
        add(s, producer, topics((t, [0])), verify=verify)
        add(s, producer, topics((t, [0, 1])), verify=verify)
        add(s, (producer[0], producer[1] + 1), topics((t, [0])), verify=verify)
        add(s, (producer[0] + 7000, producer[1]), topics((t, [0])), verify=verify)
        add(s, producer, topics((t, [0])), name="nobody", verify=verify)
        add(s, producer, topics((t, [0])), name="", verify=verify)
        add(s, producer, topics((t, [0, 7]), (s.topic("nowhere"), [0])), verify=verify)
        add(s, producer, topics(("__transaction_state", [0]), (t, [1])), verify=verify)
        add(s, producer, [], verify=verify)
        settled(s)


@case("AddOffsetsToTxn", "add, out of turn, by a zombie")
def offsets(s: Scene) -> None:
    find(s)
    producer_id, epoch = init(s)
    for name, who, group in (
        ("id", (producer_id, epoch), "g"),
        ("id", (producer_id, epoch + 1), "g"),
        ("id", (producer_id + 7000, epoch), "g"),
        ("nobody", (producer_id, epoch), "g"),
        ("", (producer_id, epoch), "g"),
    ):
        transactional_id = s.topic(name) if name else name
        s.ask(AddOffsets(transactional_id=transactional_id, producer_id=who[0], producer_epoch=who[1], group_id=group))


@case("EndTxn", "commit and abort, twice, the other way round, out of turn, by a zombie")
def ends(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    for committed in (True, False):
        name = f"id-{committed}"
        producer = init(s, name)
        producer_id, epoch = producer
        for who, known in (((producer_id, epoch + 3), name), ((producer_id + 7000, epoch), name), (producer, "nobody")):
            end(s, who, committed, known)
        end(s, producer, committed, "")
        end(s, producer, committed and s.version >= 5, name)  # nothing is open
        producer = init(s, name)
        add(s, producer, topics((s.topic(), [0, 1])), name, version=3 if s.version < 5 else 4)
        after = end(s, producer, committed, name)
        end(s, producer, committed, name)
        end(s, producer, not committed, name)
        if s.version >= 5:
            end(s, after, True, name)
            end(s, after, False, name)
            end(s, (after[0], after[1] + 5), False, name)


@case("DescribeTransactions", "one that is not there, none")
def described(s: Scene) -> None:
    find(s)
    settled(s, "nobody")
    settled(s, "")


@case("ListTransactions", "by state, by how long, by pattern")
def listed(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    for name in ("one", "two"):
        init(s, name, note=False)
    add(s, init(s, "open", note=False), topics((s.topic(), [0])), "open", note=False, version=3)
    filters = [{}, {"state_filters": ["Ongoing"]}, {"state_filters": ["ongoing", "Dead", "PrepareEpochFence", "Empty"]}]
    if s.version >= 1:
        filters += [{"duration_filter": 600_000}]
    if s.version >= 2:
        patterns = (f"{s.topic('o')}.*", s.topic("o"), "(", "")
        filters += [{"transactional_id_pattern": pattern} for pattern in patterns]
    for fields in filters:
        answer = s.ask(List(**fields), note=False)
        mine = [state for state in answer["transaction_states"] if s.prefix in state["transactional_id"]]
        answer["transaction_states"] = sorted(mine, key=lambda state: state["transactional_id"])
        s.probe.trace.append(answer)
