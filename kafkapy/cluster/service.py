"""The cluster's door: what there is, who leads it, and how topics are created, grown and deleted.

Every broker has a door of its own; behind all those of a process is one core (`core.py`). Each broker runs its service
before every room that needs topics.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.acls import Acl, AclFilter, CreateAcls, DeleteAcls
from kafkapy.cluster.brokers import AlterReassignments, ElectLeaders, Reassignment, UnregisterBroker
from kafkapy.cluster.client_quotas import AlterClientQuotas, Entity, QuotaAlteration
from kafkapy.cluster.core import Core, Onlooker
from kafkapy.cluster.delegation_tokens import (
    CreateToken,
    DelegationToken,
    ExpireToken,
    RenewToken,
)
from kafkapy.cluster.features import FeatureUpdate, UpdateFeatures
from kafkapy.cluster.image import INTERNAL_TOPICS, Change, ClusterImage, TopicInfo
from kafkapy.cluster.internal_topics import internal_topic
from kafkapy.cluster.leadership import Leadership
from kafkapy.cluster.machine import (
    AllocateProducerIds,
    AlterConfigs,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    NewPartitions,
    NewTopic,
    ResourceAlteration,
    Spend,
    freely,
)
from kafkapy.cluster.membership import Membership
from kafkapy.cluster.scram_credentials import AlterScramCredentials
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.model import Principal, format_uuid, random_uuid
from kafkapy.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.storage.base import Logs

TopicResult = TopicInfo | KafkaError

_log = logging.getLogger(__name__)

_AUTO_CREATE_TIMEOUT_MS: Final = 30_000
"""Who asks for a topic in passing waits as long as for any other request between brokers (request.timeout.ms)."""

_SEEN_SECONDS: Final = 1.0
"""How long is waited until this broker sees what another one has changed."""


class ClusterService:
    """The cluster, as one broker knows and changes it."""

    image: ClusterImage
    """The cluster as of the last change that was carried out here, with this broker's settings."""

    def __init__(
        self,
        cluster_id: str,
        config: BrokerConfig,
        logs: Logs,
        membership: Membership,
        clock: Clock,
        core: Core | None = None,
    ) -> None:
        """`core` is that of the process; without it the broker has one of its own."""
        in_turn = membership.in_turn
        self.leadership = Leadership(
            membership.node_id,
            membership.leases,
            membership.brokers,
            lambda topic_id: self.image.topic_by_id(topic_id),
            None if in_turn is None else lambda log: in_turn(log, self.image.brokers),
        )
        """Which brokers there are, and who leads what."""
        self._peers = membership.peers
        self._clock = clock
        self._core = core or Core(cluster_id, config, logs, membership.leases, clock)
        self._has_own_core = core is None
        self._static = self._config = config
        self._shown: ClusterImage | None = None
        self._callbacks: list[Callable[[Change], None]] = []
        self._onlooker = Onlooker(self._show, self._tell)
        self._nursery: trio.Nursery | None = None
        self._in_passing: set[str] = set()
        self._core.join(self._onlooker)
        self._told = self.image

    def on_change(self, callback: Callable[[Change], None]) -> None:
        """Have `callback` called with each change of the image, once it is carried out."""
        self._callbacks.append(callback)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once topics are known and their logs exist."""
        try:
            async with trio.open_nursery() as nursery:
                if self._has_own_core:
                    await nursery.start(self._core.run)
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._core.leave(self._onlooker)
            self.leadership.close()

    # Each raises as `Core.change` does. Who leaves only stops waiting.

    async def create_topics(
        self,
        topics: Sequence[NewTopic],
        *,
        validate_only: bool = False,
        timeout_ms: int | None = None,
        spend: Spend = freely,
    ) -> list[TopicResult]:
        """Create the topics; for each what it became, or why not."""
        topic_ids = [random_uuid() for _ in topics]
        results: list[TopicResult] = await self._core.change(
            CreateTopics(topics, topic_ids, validate_only, spend, self._core.epoch_origin), timeout_ms
        )
        return results

    async def create_partitions(
        self,
        topics: Sequence[NewPartitions],
        *,
        validate_only: bool = False,
        timeout_ms: int | None = None,
        spend: Spend = freely,
    ) -> list[TopicResult]:
        """Add partitions; for each topic what it became, or why not."""
        results: list[TopicResult] = await self._core.change(
            CreatePartitions(topics, validate_only, spend, self._core.epoch_origin), timeout_ms
        )
        return results

    async def delete_topics(
        self, topic_ids: Sequence[bytes], *, timeout_ms: int | None = None, spend: Spend = freely
    ) -> list[TopicResult]:
        """Delete the topics and their logs; for each what it was, or why not."""
        results: list[TopicResult] = await self._core.change(DeleteTopics(topic_ids, spend), timeout_ms)
        return results

    async def alter_client_quotas(
        self, alterations: Sequence[QuotaAlteration], unresolvable: frozenset[str], *, validate_only: bool
    ) -> dict[Entity, KafkaError | None]:
        """Change what clients are limited to; for each entity None, or why not. See `AlterClientQuotas`."""
        results: dict[Entity, KafkaError | None] = await self._core.change(
            AlterClientQuotas(alterations, unresolvable, validate_only)
        )
        return results

    async def alter_configs(
        self, resources: Sequence[ResourceAlteration], *, validate_only: bool = False
    ) -> list[KafkaError | None]:
        """Change the resources' own settings; for each None, or why not."""
        results: list[KafkaError | None] = await self._core.change(AlterConfigs(resources, validate_only))
        return results

    async def create_acls(self, acls: Sequence[Acl]) -> list[KafkaError | None]:
        """Add the ACLs that are not there yet; for each None, or why not."""
        results: list[KafkaError | None] = await self._core.change(CreateAcls(acls, [random_uuid() for _ in acls]))
        return results

    async def delete_acls(self, filters: Sequence[AclFilter]) -> list[list[Acl] | KafkaError]:
        """Remove what the filters match; for each what went, or why nothing did."""
        results: list[list[Acl] | KafkaError] = await self._core.change(DeleteAcls(filters))
        return results

    async def alter_reassignments(
        self, reassignments: Sequence[Reassignment], *, may_change_factor: bool, timeout_ms: int
    ) -> list[KafkaError | None]:
        """Have partitions move to other brokers; for each None, or why not."""
        command = AlterReassignments(reassignments, may_change_factor)
        results: list[KafkaError | None] = await self._core.change(command, timeout_ms)
        return results

    async def elect_leaders(
        self, partitions: Sequence[tuple[str, int]] | None, *, is_unclean: bool, timeout_ms: int
    ) -> dict[tuple[str, int], KafkaError | None]:
        """Have leaders elected for these partitions, or for all that need one; for each None, or why it stays."""
        results: dict[tuple[str, int], KafkaError | None] = await self._core.change(
            ElectLeaders(partitions, is_unclean), timeout_ms
        )
        return results

    async def unregister_broker(self, node_id: int) -> None:
        """Forget a broker that is not there. Raises BROKER_ID_NOT_REGISTERED, INVALID_REQUEST."""
        await self._core.change(UnregisterBroker(node_id))

    async def update_features(self, updates: Sequence[FeatureUpdate], *, validate_only: bool) -> None:
        """Settle on other levels of features. Raises INVALID_UPDATE_VERSION, and then none is changed."""
        await self._core.change(UpdateFeatures(updates, self.leadership.node_id, validate_only))

    async def alter_scram_credentials(self, command: AlterScramCredentials) -> dict[str, KafkaError | None]:
        """Change users' credentials; for each user None, or why not."""
        results: dict[str, KafkaError | None] = await self._core.change(command)
        return results

    async def create_token(
        self,
        owner: Principal,
        requester: Principal,
        renewers: tuple[Principal, ...],
        *,
        lifetime_ms: int,
        renewal_ms: int,
    ) -> DelegationToken:
        """A new delegation token, which lasts `renewal_ms` and can be renewed up to `lifetime_ms`."""
        command = CreateToken(format_uuid(random_uuid()), owner, requester, renewers, lifetime_ms, renewal_ms)
        token: DelegationToken = await self._core.change(command)
        return token

    async def move_token(self, command: RenewToken | ExpireToken) -> int:
        """When the delegation token ends now, in milliseconds. Raises DELEGATION_TOKEN_NOT_FOUND and the like."""
        expires_ms: int = await self._core.change(command)
        return expires_ms

    async def auto_create(self, names: Sequence[str]) -> list[TopicResult]:
        """Have the controller create the topics with the broker's defaults, internal ones with theirs.

        For each what it is, or why not. Raises BROKER_NOT_AVAILABLE, and as `catch_up` does.
        """
        wanted = [
            internal_topic(name, self.image.config) if name in INTERNAL_TOPICS else NewTopic(name) for name in names
        ]
        refusals = await self.have_created(wanted)
        await self.catch_up()  # another broker's controller may have them, or have had them by somebody else's wish
        gone_again = KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
        return [self.image.topic(name) or refusals.get(name, gone_again) for name in names]

    async def have_created(self, topics: Sequence[NewTopic]) -> dict[str, KafkaError]:
        """Have the controller, wherever it is, create the topics, on brokers of its choice; what it refuses, by name.

        This broker may hear of them later. Raises BROKER_NOT_AVAILABLE.
        """
        request = CreateTopicsRequest(topics=[_asked(topic) for topic in topics], timeout_ms=_AUTO_CREATE_TIMEOUT_MS)
        response = await self._peers.ask(self.leadership.controller_id, request)
        return {
            topic.name: KafkaError(Error.of(topic.error_code), topic.error_message)
            for topic in response.topics
            if topic.error_code
        }

    def create_in_passing(self, names: Sequence[str], told: Callable[[str, TopicResult], None]) -> None:
        """Begin what `auto_create` does, but for topics for which that is under way; `told` hears what became of each.

        Nothing is begun before the caller has something to wait for.
        """
        new = [name for name in names if name not in self._in_passing]
        if new and self._nursery is not None:
            self._in_passing.update(new)
            self._nursery.start_soon(self._create_in_passing, new, told)

    async def _create_in_passing(self, names: Sequence[str], told: Callable[[str, TopicResult], None]) -> None:
        try:
            results = await self.auto_create(names)
        except KafkaError as refusal:
            results = [refusal] * len(names)
        finally:
            self._in_passing.difference_update(names)
        for name, result in zip(names, results, strict=True):
            told(name, result)

    async def ensure_internal_topic(self, name: str) -> TopicInfo:
        """The internal topic, which is created when it is first asked for.

        As in Kafka, who asks first, and may not wait by `kafkapy.auto.create.wait`, is told that there is no
        coordinator yet: raises COORDINATOR_NOT_AVAILABLE, or the `KafkaError` that prevents the topic.
        """
        topic: TopicResult | None = self.image.topic(name)
        if topic is None and self.image.config["kafkapy.auto.create.wait"]:
            with suppress(KafkaError):  # there is no controller now
                [topic] = await self.auto_create([name])
        if isinstance(topic, KafkaError) and topic.error is Error.NOT_CONTROLLER:
            topic = None
        if topic is None:
            self.create_in_passing([name], _tell)
            raise KafkaError(Error.COORDINATOR_NOT_AVAILABLE)
        if isinstance(topic, KafkaError):
            raise topic
        return topic

    async def allocate_producer_ids(self) -> range:
        """A block of producer ids that nobody else has, now or after a restart: the controller's, wherever that is."""
        if self._core.controller.is_here:
            return await self.allocate_producer_ids_here()
        node_id = self.leadership.node_id
        registered = self.image.brokers.get(node_id)
        request = AllocateProducerIdsRequest(
            broker_id=node_id, broker_epoch=-1 if registered is None else registered.epoch
        )
        response = await self._peers.ask(self.leadership.controller_id, request)
        if response.error_code:
            raise KafkaError(Error.of(response.error_code))
        if response.producer_id_len <= 0:
            raise KafkaError(Error.UNKNOWN_SERVER_ERROR, "the controller's block of producer ids is empty")
        return range(response.producer_id_start, response.producer_id_start + response.producer_id_len)

    async def allocate_producer_ids_here(self) -> range:
        """The same, of this process's controller. Raises NOT_CONTROLLER when it has none."""
        block: range = await self._core.controller.execute(AllocateProducerIds())
        return block

    @property
    def metadata_offset(self) -> int:
        """How far the image has come in the metadata log: all facts before this offset are in it."""
        return self._core.metadata_offset

    async def see_what_changed(self) -> None:
        """Have this broker know what the controller, elsewhere, has just changed: who asked for it may go on to use it.

        That is a courtesy: where it takes long, the image follows when it does, as with Kafka's brokers.
        """
        with suppress(KafkaError), self._clock.until(self._clock.monotonic() + _SEEN_SECONDS):
            await self.catch_up()

    async def catch_up(self) -> None:
        """Return once the image has whatever the metadata log has now. Raises KafkaError when it cannot be read."""
        await self._core.catch_up()

    def _show(self, image: ClusterImage) -> None:
        if self._static is not self._core.config:  # images have the settings of another broker
            if self._shown is None or image.config is not self._shown.config:
                self._config = self._static.with_dynamic(
                    broker=image.overrides_of(ConfigResource.BROKER, str(self.leadership.node_id)),
                    default=image.overrides_of(ConfigResource.BROKER, ""),
                )
            self._shown = image
            image = image.with_config(self._config)
        self.image = image

    def _tell(self, change: Change) -> None:
        if change.new.kinds.registrations is not change.old.kinds.registrations:
            self.leadership.forget()
        change = change._replace(old=self._told, new=self.image)
        self._told = self.image
        for callback in self._callbacks:
            callback(change)


def _tell(name: str, result: TopicResult) -> None:
    if isinstance(result, KafkaError):
        _log.warning("could not create the internal topic %s: %s", name, result)
    else:
        _log.info("created the internal topic %s", name)


def _asked(topic: NewTopic) -> CreateTopicsRequest.CreatableTopic:
    return CreateTopicsRequest.CreatableTopic(
        name=topic.name,
        num_partitions=topic.partition_count,
        replication_factor=topic.replication_factor,
        configs=[
            CreateTopicsRequest.CreatableTopicConfig(name=name, value=value) for name, value in topic.overrides.items()
        ],
    )
