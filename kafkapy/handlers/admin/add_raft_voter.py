"""AddRaftVoter (key 80), versions 0 to 1.

Always refused (see `raft_voters.py`).
"""

from kafkapy.handlers.admin.raft_voters import check_voter, voters_are_fixed
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse


async def handle(request: AddRaftVoterRequest, ctx: Context) -> AddRaftVoterResponse:
    check_voter(request.cluster_id, request.voter_id, request.voter_directory_id, "Add", ctx)
    raise voters_are_fixed("adding")
