"""RemoveRaftVoter (key 81), version 0.

Always refused (see `raft_voters.py`).
"""

from kafkapy.handlers.admin.raft_voters import check_voter, voters_are_fixed
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse


async def handle(request: RemoveRaftVoterRequest, ctx: Context) -> RemoveRaftVoterResponse:
    check_voter(request.cluster_id, request.voter_id, request.voter_directory_id, "Remove", ctx)
    raise voters_are_fixed("removing")
