"""What AddRaftVoter and RemoveRaftVoter refuse, in Kafka's order: there is no quorum that could change.

A cluster keeps its metadata as Kafka does whose quorum cannot change: kraft.version is 0.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import ZERO_UUID, Operation, ResourceType


def check_voter(cluster_id: str | None, voter_id: int, directory_id: bytes, verb: str, ctx: Context) -> None:
    """Raise unless the request is meant for this cluster, by whom may change it, and names a voter that could be."""
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    own = ctx.rooms.cluster.image.cluster_id
    if cluster_id is not None and cluster_id != own:
        raise KafkaError(
            Error.INCONSISTENT_CLUSTER_ID, f'The given id "{cluster_id}" doesn\'t match the cluster id "{own}"'
        )
    if voter_id < 0 or directory_id == ZERO_UUID:
        raise KafkaError(Error.INVALID_REQUEST, f"{verb} voter request didn't include a valid voter")


def voters_are_fixed(verb: str) -> KafkaError:
    """Why the voters stay who they are."""
    return KafkaError(
        Error.UNSUPPORTED_VERSION, f"Cluster doesn't support {verb} voter because the kraft.version feature is 0"
    )
